#include "kernel/file_extents.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace sluice::kernel {
namespace {

// A hole that reaches to the end of the file is ENXIO, as an offset behind the end is: only the
// size tells them apart.
std::int64_t hole_at_end(file_piece& piece) {
  struct stat info{};
  if (::fstat(piece.fd, &info) != 0) return -errno;
  const auto end = static_cast<std::uint64_t>(info.st_size);
  if (end <= piece.offset) return -ENXIO;
  piece.is_hole = true;
  piece.bytes = end - piece.offset;
  return 0;
}

}  // namespace

std::int64_t find_piece(file_piece& piece) {
  const auto begin = static_cast<off_t>(piece.offset);
  const off_t data = ::lseek(piece.fd, begin, SEEK_DATA);
  if (data < 0) return errno == ENXIO ? hole_at_end(piece) : -errno;
  piece.is_hole = data > begin;
  const off_t end = piece.is_hole ? data : ::lseek(piece.fd, begin, SEEK_HOLE);
  if (end < 0) return -errno;
  piece.bytes = static_cast<std::uint64_t>(end - begin);
  return 0;
}

std::int64_t share_blocks(const shared_range& range) {
  file_clone_range wanted{};
  wanted.src_fd = range.source;
  wanted.src_offset = range.source_offset;
  wanted.src_length = range.bytes;
  wanted.dest_offset = range.target_offset;
  return ::ioctl(range.target, FICLONERANGE, &wanted) == 0 ? 0 : -errno;
}

int try_copy_file_range() {
  if (::copy_file_range(-1, nullptr, -1, nullptr, 1, 0) < 0 && errno != EBADF) return errno;
  return 0;
}

}  // namespace sluice::kernel
