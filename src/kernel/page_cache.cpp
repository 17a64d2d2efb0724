#include "kernel/page_cache.hpp"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/uapi.hpp"

namespace sluice::kernel {
namespace {

// The end of the file counts: there is nothing to wait for.
bool byte_is_resident(int fd, std::uint64_t offset) {
  char byte = 0;
  iovec one{&byte, 1};
  return ::preadv2(fd, &one, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0;
}

// False when pages are missing in between. Where the kernel does not say (ENOSYS before 6.5, EPERM
// for a file of somebody else), the two ends have to stand for all.
bool none_is_missing(int fd, std::uint64_t offset, std::uint64_t bytes) {
  const uapi::cachestat_range range{offset, bytes};
  uapi::cachestat found{};
  if (::syscall(uapi::sys_cachestat, fd, &range, &found, 0) != 0) return true;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return found.nr_cache >= (offset + bytes - 1) / page - offset / page + 1;
}

}  // namespace

bool is_resident(int fd, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return true;
  // The last page first: read-ahead comes to it last. A page that is there may still be being read;
  // only trying to read it tells.
  return byte_is_resident(fd, offset + bytes - 1) && byte_is_resident(fd, offset) &&
         none_is_missing(fd, offset, bytes);
}

}  // namespace sluice::kernel
