#include "kernel/pipe.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>

namespace sluice::kernel {
namespace {

// What F_SETPIPE_SZ takes is an int, and a power of two.
constexpr std::uint64_t pipe_bytes_max = std::uint64_t{1} << 30;

// A call on no descriptor: EBADF says that the kernel has it.
int there_or_errno(long result) { return result < 0 && errno != EBADF ? errno : 0; }

}  // namespace

result<pipe> pipe::make(std::uint64_t bytes) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return fail(errno, "pipe2");
  pipe made;
  made.read_end_.reset(ends[0]);
  made.write_end_.reset(ends[1]);
  [[maybe_unused]] const int refused =
      ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(std::min(bytes, pipe_bytes_max)));
  const int room = ::fcntl(ends[1], F_GETPIPE_SZ);
  if (room <= 0) return fail(errno, "fcntl", "size of a pipe");
  made.bytes_ = static_cast<std::uint64_t>(room);
  return made;
}

bool pipe::is_empty() const {
  int unread = -1;
  return ::ioctl(read_end_.get(), FIONREAD, &unread) == 0 && unread == 0;
}

std::uint64_t pipes_per_user(std::uint64_t bytes) {
  std::ifstream setting("/proc/sys/fs/pipe-user-pages-soft");
  std::uint64_t pages = 0;
  if (!(setting >> pages) || pages == 0) return std::numeric_limits<std::uint64_t>::max();
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages / std::max<std::uint64_t>(bytes / page_bytes, 1);
}

int try_splice() { return there_or_errno(::splice(-1, nullptr, -1, nullptr, 1, 0)); }

int try_sendfile() { return there_or_errno(::sendfile(-1, -1, nullptr, 1)); }

}  // namespace sluice::kernel
