#include "kernel/file_info.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "kernel/fd.hpp"
#include "kernel/uapi.hpp"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t trial_alignment_bytes = 4096;

template <class T>
T field_at(const struct statx& info, std::size_t offset) {
  T value{};
  std::memcpy(&value, reinterpret_cast<const char*>(&info) + offset, sizeof value);
  return value;
}

direct_alignment told_alignment(const struct statx& info) {
  return {field_at<std::uint32_t>(info, uapi::statx_dio_mem_align_offset),
          field_at<std::uint32_t>(info, uapi::statx_dio_offset_align_offset)};
}

inode_info inode_from(const struct statx& info) {
  inode_info seen{
      .bytes = info.stx_size,
      .inode = info.stx_ino,
      .device = makedev(info.stx_dev_major, info.stx_dev_minor),
      .modified_ns = std::int64_t{info.stx_mtime.tv_sec} * 1'000'000'000 + info.stx_mtime.tv_nsec,
      .mode = info.stx_mode,
      .attributes = info.stx_attributes_mask,
  };
  if ((info.stx_mask & (uapi::statx_mnt_id | uapi::statx_mnt_id_unique)) != 0)
    seen.mount = field_at<std::uint64_t>(info, uapi::statx_mnt_id_offset);
  seen.tells_direct = (info.stx_mask & uapi::statx_dioalign) != 0;
  if (seen.tells_direct) seen.direct = told_alignment(info);
  return seen;
}

// Where statx(2) is forbidden: containers whose filter is older than it.
result<inode_info> inode_by_fstat(int fd) {
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

result<inode_info> inode_by(int fd, int flags) {
  constexpr unsigned wanted =
      STATX_BASIC_STATS | uapi::statx_mnt_id | uapi::statx_mnt_id_unique | uapi::statx_dioalign;
  struct statx info{};
  if (::statx(fd, "", AT_EMPTY_PATH | flags, wanted, &info) == 0) return inode_from(info);
  if (errno == EPERM || errno == ENOSYS) return inode_by_fstat(fd);
  return fail(errno, "statx");
}

}  // namespace

result<inode_info> inode_of(int fd) { return inode_by(fd, AT_STATX_DONT_SYNC); }

result<inode_info> inode_now(int fd) { return inode_by(fd, 0); }

result<void> require_regular(const inode_info& inode) {
  if (S_ISDIR(inode.mode)) return fail(EISDIR, "open", "a directory");
  // Only O_PATH opens a link itself, and of the two ways beneath only the walk.
  if (S_ISLNK(inode.mode)) return fail(ELOOP, "open", "a symbolic link");
  if (!S_ISREG(inode.mode)) return fail(EINVAL, "open", "not a regular file");
  return {};
}

filesystem_kind filesystem_of(int fd) {
  struct statfs info{};
  if (::fstatfs(fd, &info) != 0) return {};
  return {static_cast<std::uint32_t>(info.f_type)};
}

// overlayfs is none of them: what lies below it may be anything.
bool filesystem_kind::answers_at_once() const {
  switch (magic) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC: return true;
    default: return false;
  }
}

// tmpfs takes O_DIRECT and copies into the page cache all the same (Linux 6.6 and later).
bool filesystem_kind::is_in_memory() const { return magic == TMPFS_MAGIC || magic == RAMFS_MAGIC; }

const char* filesystem_kind::direct_distrust() const {
  if (magic != FUSE_SUPER_MAGIC) return nullptr;
  return "auto: O_DIRECT on FUSE is what its daemon makes of it";
}

const char* filesystem_kind::syncfs_distrust() const {
  switch (magic) {
    case 0: return "the filesystem cannot be asked what it is";
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC: return nullptr;
    default: return "syncfs of this filesystem is not known to make files durable";
  }
}

const char* filesystem_kind::space_distrust() const {
  switch (magic) {
    case 0: return "the filesystem cannot be asked what it is";
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case TMPFS_MAGIC: return nullptr;
    default: return "space reserved on this filesystem is not known to be promised";
  }
}

direct_alignment alignment_of(int fd, const inode_info& inode, filesystem_kind on) {
  if (inode.tells_direct) return inode.direct;
  if (on.is_in_memory() || set_direct(fd, true) != 0) return {};
  [[maybe_unused]] const int off = set_direct(fd, false);
  return {trial_alignment_bytes, trial_alignment_bytes};
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

int reopen_direct(int fd, int access, reopened& found) {
  const int again = reopen(fd, access | O_DIRECT);
  if (again < 0) return again == -EINVAL ? -EOPNOTSUPP : again;
  unique_fd opened(again);
  const result<inode_info> inode = inode_of(opened.get());
  if (!inode) return -inode.error().code;
  found.on = filesystem_of(opened.get());
  found.alignment = alignment_of(opened.get(), *inode, found.on);
  if (!found.alignment.possible()) return -EOPNOTSUPP;
  // Asking may have switched it off.
  const int refusal = set_direct(opened.get(), true);
  return refusal == 0 ? opened.release() : -refusal;
}

std::uint64_t free_bytes_beside(int fd) {
  struct statvfs info{};
  if (::fstatvfs(fd, &info) != 0) return std::numeric_limits<std::uint64_t>::max();
  return std::uint64_t{info.f_bfree} * info.f_frsize;
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
