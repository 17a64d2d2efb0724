#include "kernel/page_cache.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "kernel/uapi.hpp"

namespace sluice::kernel {
namespace {

constexpr std::uint64_t read_ahead_bytes = 128 << 10;  // the default of read_ahead_kb

// What the kernel says; unknown where it does not.
enum class presence : std::uint8_t { no, yes, unknown };

// The end of the file counts: there is nothing to wait for.
presence of_byte(int fd, std::uint64_t offset) {
  char byte = 0;
  iovec one{&byte, 1};
  if (::preadv2(fd, &one, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0) return presence::yes;
  return errno == EOPNOTSUPP ? presence::unknown : presence::no;
}

// Whether every page is in the cache, be it still being read. Unknown: ENOSYS before Linux 6.5,
// EPERM for a file of somebody else.
presence of_pages(int fd, std::uint64_t offset, std::uint64_t bytes) {
  const uapi::cachestat_range range{offset, bytes};
  uapi::cachestat found{};
  if (::syscall(uapi::sys_cachestat, fd, &range, &found, 0) != 0) return presence::unknown;
  const std::uint64_t page = page_bytes();
  const std::uint64_t pages = (offset + bytes - 1) / page - offset / page + 1;
  return found.nr_cache >= pages ? presence::yes : presence::no;
}

}  // namespace

bool is_in_memory(int fd) { return ::fcntl(fd, F_GET_SEALS) >= 0; }

std::uint64_t page_bytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

std::uint64_t page_floor(std::uint64_t offset) { return offset / page_bytes() * page_bytes(); }

std::uint64_t page_ceiling(std::uint64_t offset) { return page_floor(offset + page_bytes() - 1); }

bool is_resident(int fd, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return true;
  // The last page first: read-ahead comes to it last. A page that is there may still be being read;
  // only trying to read it tells.
  const presence last = of_byte(fd, offset + bytes - 1);
  if (last == presence::no) return false;
  if (last == presence::unknown) {
    // Its pages are nowhere else: one in the cache is whole.
    return is_in_memory(fd) && of_pages(fd, offset, bytes) == presence::yes;
  }
  const presence all = of_pages(fd, offset, bytes);
  // A range that one read-ahead reads is there when its end is, if none is missing.
  if (all == presence::yes && bytes <= read_ahead_bytes) return true;
  return all != presence::no && of_byte(fd, offset) == presence::yes;
}

int write_back(int fd, std::uint64_t offset, std::uint64_t bytes) {
  constexpr unsigned through =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes), through) == 0)
    return 0;
  return errno;
}

void begin_write_back(int fd, std::uint64_t offset, std::uint64_t bytes) {
  [[maybe_unused]] const int ignored = ::sync_file_range(
      fd, static_cast<off_t>(offset), static_cast<off_t>(bytes), SYNC_FILE_RANGE_WRITE);
}

void drop_pages(int fd, std::uint64_t offset, std::uint64_t bytes) {
  [[maybe_unused]] const int ignored = ::posix_fadvise(
      fd, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
}

static_assert(dontcache_flag == uapi::rwf_dontcache);

bool has_dontcache(int fd) {
  char byte = 0;
  iovec one{&byte, 1};
  constexpr off_t behind_any_end = std::numeric_limits<off_t>::max() - 1;
  return ::preadv2(fd, &one, 1, behind_any_end, uapi::rwf_dontcache) >= 0;
}

}  // namespace sluice::kernel
