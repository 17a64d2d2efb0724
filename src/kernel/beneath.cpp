#include "kernel/beneath.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "kernel/fd.hpp"

namespace sluice::kernel {
namespace {

// A symbolic link is refused with ENOTDIR where a directory is asked for; openat2 says ELOOP then
// too.
int refusal_of(int from, const char* component, int refusal) {
  if (refusal != ENOTDIR) return refusal;
  struct stat info{};
  const bool there = ::fstatat(from, component, &info, AT_SYMLINK_NOFOLLOW) == 0;
  return there && S_ISLNK(info.st_mode) ? ELOOP : refusal;
}

}  // namespace

beneath_how make_beneath_how(int flags, std::uint32_t mode) {
  static_assert(sizeof(beneath_how) == sizeof(open_how));
  beneath_how how;
  how.flags = static_cast<std::uint32_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return how;
}

std::int64_t walk_beneath(int directory_fd, const char* path, int flags, std::uint32_t mode) {
  if (*path == '\0') return -ENOENT;
  if (*path == '/') return -EXDEV;
  unique_fd here;
  int from = directory_fd;
  std::string_view rest = path;
  while (true) {
    const std::size_t slash = rest.find('/');
    const std::string component(rest.substr(0, slash));
    if (component == "..") return -EXDEV;
    if (slash == std::string_view::npos) {
      const int fd = ::openat(from, component.empty() ? "." : component.c_str(),
                              flags | O_NOFOLLOW | O_CLOEXEC, mode);
      return fd < 0 ? -refusal_of(from, component.c_str(), errno) : fd;
    }
    rest.remove_prefix(slash + 1);
    if (component.empty() || component == ".") continue;
    const int next =
        ::openat(from, component.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) return -refusal_of(from, component.c_str(), errno);
    here.reset(next);
    from = here.get();
  }
}

}  // namespace sluice::kernel
