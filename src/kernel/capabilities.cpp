#include "kernel/capabilities.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {

capability_table::capability_table(std::string_view hidden) {
  while (!hidden.empty()) {
    const std::size_t comma = std::min(hidden.find(','), hidden.size());
    std::string_view name = hidden.substr(0, comma);
    hidden.remove_prefix(std::min(comma + 1, hidden.size()));
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (!name.empty()) hidden_.emplace_back(name);
  }
}

bool capability_table::hidden(std::string_view name) const {
  return std::ranges::find(hidden_, name) != hidden_.end();
}

bool capability_table::add(std::string_view name, bool present, std::string_view reason) {
  if (present && hidden(name)) {
    present = false;
    reason = "hidden by sluice.capabilities.hidden";
  }
  rows_.push_back({std::string(name), present, present ? std::string() : std::string(reason)});
  return present;
}

bool capability_table::present(std::string_view name) const {
  const auto row = std::ranges::find(rows_, name, &capability_row::name);
  return row != rows_.end() && row->present;
}

std::string ring_refusal_reason(int refusal) {
  std::string reason = std::string(code_name(refusal)) + ": ";
  switch (refusal) {
    case EPERM: {
      std::ifstream setting("/proc/sys/kernel/io_uring_disabled");
      std::string value;
      if (setting >> value && value != "0") return reason + "kernel.io_uring_disabled=" + value;
      return reason + "a security policy forbids io_uring (seccomp, as in containers, or LSM)";
    }
    case ENOSYS: return reason + "no io_uring in this kernel, or a seccomp filter hides it";
    case ENOMEM: return reason + "RLIMIT_MEMLOCK or memory too small for the smallest ring";
    case EMFILE:
    case ENFILE: return reason + "no descriptor left";
    default: return reason + "io_uring_setup refused";
  }
}

int try_openat2() {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC | O_DIRECTORY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const unique_fd opened(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how)));
  if (opened || errno == EACCES || errno == ENOENT) return 0;  // the call itself is there
  return errno;
}

int try_proc_self_fd() { return ::access("/proc/self/fd", X_OK) == 0 ? 0 : errno; }

}  // namespace sluice::kernel
