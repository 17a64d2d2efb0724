// Where a file has data and where holes, and sharing blocks between files. All of these may wait
// for the disk: for a worker thread.
#pragma once

#include <cstdint>

namespace sluice::kernel {

// A piece of a file, all data or all hole.
struct file_piece {
  int fd = -1;
  std::uint64_t offset = 0;  // where it begins
  std::uint64_t bytes = 0;   // until it ends, found by find_piece
  bool is_hole = false;      // likewise
};
// Finds how far what is at piece.offset reaches: 0, or -errno, -ENXIO for an offset at or behind
// the end of the file. A filesystem that knows no holes calls all of it data. Moves the
// descriptor's own position, which sluice never uses.
[[nodiscard]] std::int64_t find_piece(file_piece& piece);

// Copies pieces of a file to where another one ends, or behind: data by copy_file_range(2), which
// would fill the holes; these are left out. Ends with the range, after data_max bytes of data,
// after pieces_max pieces, or with a failure, -errno: -ENXIO at the end of the source, -EOPNOTSUPP,
// EXDEV, ENOSYS and EINVAL where the kernel cannot copy between the two.
struct appended_range {
  int source = -1;
  int target = -1;
  std::uint64_t source_offset = 0;
  std::uint64_t target_offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t data_max = 0;
  std::uint32_t pieces_max = 0;
  // What was done, whatever the failure.
  std::uint64_t data_bytes = 0;
  std::uint64_t hole_bytes = 0;
  std::int64_t failure = 0;
};
void append_pieces(appended_range& range);

// Makes a range of `target` share the blocks of `source` (FICLONERANGE): 0 or -errno. Either the
// whole range or, with EOPNOTSUPP, EXDEV, ENOTTY and EINVAL (not on the borders of blocks, which
// the end of the source excuses only where the target ends too), nothing was changed.
struct shared_range {
  int source = -1;
  int target = -1;
  std::uint64_t source_offset = 0;
  std::uint64_t target_offset = 0;
  std::uint64_t bytes = 0;  // above 0
};
[[nodiscard]] std::int64_t share_blocks(const shared_range& range);

// Whether copy_file_range(2) is there: 0, or the errno of a harmless call (ENOSYS, or EPERM under a
// filter).
[[nodiscard]] int try_copy_file_range();

}  // namespace sluice::kernel
