// What the page cache holds of a file, as cachestat(2) counts it.
#pragma once

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "kernel/uapi.hpp"

namespace support {

inline std::uint64_t cached_bytes(int fd, std::uint64_t offset, std::uint64_t bytes) {
  const sluice::uapi::cachestat_range range{offset, bytes};
  sluice::uapi::cachestat found{};
  if (::syscall(sluice::uapi::sys_cachestat, fd, &range, &found, 0) != 0) return 0;
  return found.nr_cache * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Not where the cache is all there is, nor where the kernel does not tell (before 6.5).
inline bool can_drop_pages(const std::string& folder) {
  struct statfs info{};
  if (::statfs(folder.c_str(), &info) != 0 || info.f_type == TMPFS_MAGIC) return false;
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  const char byte = 'x';
  const bool written = ::pwrite(fd, &byte, 1, 0) == 1;
  const bool tells = written && cached_bytes(fd, 0, 1) > 0;
  ::close(fd);
  return tells;
}

}  // namespace support
