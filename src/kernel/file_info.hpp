// What an open file says of itself. None of these waits for a disk: the inode is in memory. But a
// FUSE daemon or a server of the network has it in its memory, and may not answer at all: what says
// that it asks is for the loop's thread only where filesystem_kind::answers_at_once
// (kernel-notes/cached_attributes_do_not_wait.md).
#pragma once

#include <cstdint>

#include "sluice/result.hpp"

namespace sluice::kernel {

// What O_DIRECT asks of this file (kernel-notes/direct_write_alignment.md). Zero: not by O_DIRECT.
struct direct_alignment {
  std::uint32_t memory_bytes = 0;
  std::uint32_t offset_bytes = 0;
  [[nodiscard]] bool possible() const { return offset_bytes != 0; }
};

struct inode_info {
  std::uint64_t bytes = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;  // of the filesystem; btrfs has one per subvolume
  std::int64_t modified_ns = 0;
  std::uint32_t mode = 0;
  // The mount it was opened by. Before Linux 6.8 a later mount may have the same number, perhaps on
  // the same device; then `attributes`, those that the filesystem knows, tell many apart.
  std::uint64_t mount = 0;
  std::uint64_t attributes = 0;
  direct_alignment direct = {};  // where it is told:
  bool tells_direct = false;     // by STATX_DIOALIGN
};

// As the kernel remembers it, asking nobody. What an open file always is, its numbers and its kind,
// is right; size and time are those of the last answer, and of what this machine did since.
[[nodiscard]] result<inode_info> inode_of(int fd);
// As it is now: asks.
[[nodiscard]] result<inode_info> inode_now(int fd);
// EISDIR for a directory, ELOOP for a symbolic link, EINVAL for what else is no regular file.
[[nodiscard]] result<void> require_regular(const inode_info& inode);

// Which filesystem a file lies on; nothing of it changes while the file is open.
struct filesystem_kind {
  std::uint32_t magic = 0;  // statfs(2); 0: it could not be asked

  // Whether it is one of those that are known to answer fstat(2) and fstatfs(2) from memory.
  [[nodiscard]] bool answers_at_once() const;
  [[nodiscard]] bool is_in_memory() const;
  // Why O_DIRECT of a filesystem that takes it should be left alone unless asked for, or null. What
  // a direct read or write is, a FUSE daemon decides, and some answer short or from a cache of
  // their own.
  [[nodiscard]] const char* direct_distrust() const;
  // Why one syncfs(2) there does not stand for an fdatasync(2) of each file written since they were
  // made, or null: it does. FUSE does not even tell its daemon, and of other filesystems nobody has
  // looked (kernel-notes/syncfs_error_per_descriptor.md).
  [[nodiscard]] const char* syncfs_distrust() const;
  // Why fallocate(2) there does not promise that a later write of the range finds its space, or
  // null: it does. btrfs writes data elsewhere when it is overwritten or compressed, and of others
  // nobody has looked.
  [[nodiscard]] const char* space_distrust() const;
};
// Asks.
[[nodiscard]] filesystem_kind filesystem_of(int fd);

// As the inode tells it; where the kernel or the filesystem does not, 4096 for a filesystem that
// accepts the flag. One that wants more answers the first write with EINVAL.
[[nodiscard]] direct_alignment alignment_of(int fd, const inode_info& inode, filesystem_kind on);

// Switches O_DIRECT of an open descriptor: 0 or an errno (EINVAL where the filesystem cannot).
[[nodiscard]] int set_direct(int fd, bool on);

// Opens the file of a descriptor once more, with flags and a write-back error of its own: the new
// descriptor, or -errno (ENOENT without /proc, EACCES). May wait for a network filesystem.
[[nodiscard]] int reopen(int fd, int flags);

// Opens the file of a descriptor once more, by O_DIRECT only, with flags of its own
// (kernel-notes/reopened_file_has_own_flags.md); `access` is O_RDONLY or O_WRONLY. The new
// descriptor, and in `found` what the file asks for; or -errno, EOPNOTSUPP where the filesystem
// cannot. May wait for a network filesystem.
struct reopened {
  direct_alignment alignment;
  filesystem_kind on;
};
[[nodiscard]] int reopen_direct(int fd, int access, reopened& found);

// Free bytes of its filesystem, those reserved for root included; the largest number when it cannot
// be asked. Asks.
[[nodiscard]] std::uint64_t free_bytes_beside(int fd);

// Whether the descriptor was opened for writing, or for reading.
[[nodiscard]] bool is_writable(int fd);
[[nodiscard]] bool is_readable(int fd);

// Whether the descriptor was opened with O_APPEND (kernel-notes/append_ignores_offset.md).
[[nodiscard]] bool is_append(int fd);

// Whether O_DIRECT is on.
[[nodiscard]] bool is_direct(int fd);

}  // namespace sluice::kernel
