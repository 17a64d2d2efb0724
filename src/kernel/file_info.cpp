#include "kernel/file_info.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "kernel/fd.hpp"
#include "kernel/uapi.hpp"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t trial_alignment_bytes = 4096;

std::uint32_t field_at(const struct statx& info, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, reinterpret_cast<const char*>(&info) + offset, sizeof value);
  return value;
}

// tmpfs takes O_DIRECT and copies into the page cache all the same (Linux 6.6 and later).
bool is_memory_filesystem(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) return false;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
}

}  // namespace

direct_alignment alignment_of(int fd) {
  struct statx info{};
  const bool known = ::statx(fd, "", AT_EMPTY_PATH, uapi::statx_dioalign, &info) == 0;
  if (known && (info.stx_mask & uapi::statx_dioalign) != 0) {
    return {field_at(info, uapi::statx_dio_mem_align_offset),
            field_at(info, uapi::statx_dio_offset_align_offset)};
  }
  if (is_memory_filesystem(fd) || set_direct(fd, true) != 0) return {};
  [[maybe_unused]] const int off = set_direct(fd, false);
  return {trial_alignment_bytes, trial_alignment_bytes};
}

const char* direct_distrust(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0 || info.f_type != FUSE_SUPER_MAGIC) return nullptr;
  return "auto: O_DIRECT on FUSE is what its daemon makes of it";
}

int set_direct(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return errno;
  const int wanted = on ? flags | O_DIRECT : flags & ~O_DIRECT;
  if (wanted == flags) return 0;
  return ::fcntl(fd, F_SETFL, wanted) == 0 ? 0 : errno;
}

int reopen(int fd, int flags) {
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(fd);
  const int opened = ::open(by_descriptor.c_str(), flags | O_CLOEXEC);
  return opened >= 0 ? opened : -errno;
}

int reopen_direct(int fd, int access, direct_alignment& alignment) {
  const int again = reopen(fd, access | O_DIRECT);
  if (again < 0) return again == -EINVAL ? -EOPNOTSUPP : again;
  unique_fd opened(again);
  alignment = alignment_of(opened.get());
  if (!alignment.possible()) return -EOPNOTSUPP;
  // Asking may have switched it off.
  const int refusal = set_direct(opened.get(), true);
  return refusal == 0 ? opened.release() : -refusal;
}

result<inode_info> inode_of(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail(errno, "fstat");
  return inode_info{
      .bytes = static_cast<std::uint64_t>(info.st_size),
      .inode = info.st_ino,
      .device = info.st_dev,
      .modified_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec,
      .mode = info.st_mode,
  };
}

result<inode_info> require_regular(int fd) {
  const result<inode_info> inode = inode_of(fd);
  if (!inode) return inode;
  if (S_ISDIR(inode->mode)) return fail(EISDIR, "open", "a directory");
  // Only O_PATH opens a link itself, and of the two ways beneath only the walk.
  if (S_ISLNK(inode->mode)) return fail(ELOOP, "open", "a symbolic link");
  if (!S_ISREG(inode->mode)) return fail(EINVAL, "open", "not a regular file");
  return inode;
}

std::uint64_t free_bytes_beside(int fd) {
  struct statvfs info{};
  if (::fstatvfs(fd, &info) != 0) return std::numeric_limits<std::uint64_t>::max();
  return std::uint64_t{info.f_bfree} * info.f_frsize;
}

const char* syncfs_distrust(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) return "the filesystem cannot be asked what it is";
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC: return nullptr;
    default: return "syncfs of this filesystem is not known to make files durable";
  }
}

const char* space_distrust(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) return "the filesystem cannot be asked what it is";
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case TMPFS_MAGIC: return nullptr;
    default: return "space reserved on this filesystem is not known to be promised";
  }
}

bool is_writable(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

bool is_readable(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

bool is_append(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_APPEND) != 0;
}

bool is_direct(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0;
}

}  // namespace sluice::kernel
