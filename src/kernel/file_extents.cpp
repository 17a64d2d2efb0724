#include "kernel/file_extents.hpp"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

// Bytes copied, fewer than asked for when data_max is reached; or -errno.
std::int64_t append_data(const appended_range& range, std::uint64_t bytes) {
  auto from = static_cast<off_t>(range.source_offset + range.data_bytes + range.hole_bytes);
  auto to = static_cast<off_t>(range.target_offset + range.data_bytes + range.hole_bytes);
  const std::uint64_t most = std::min(bytes, range.data_max - range.data_bytes);
  const ssize_t copied = ::copy_file_range(range.source, &from, range.target, &to, most, 0);
  if (copied != 0) return copied < 0 ? -errno : copied;
  // The end of the file, or a filesystem that has no such call and says nothing of it, as some
  // virtual ones.
  struct stat info{};
  if (::fstat(range.source, &info) != 0) return -errno;
  return info.st_size <= from ? -ENXIO : -EOPNOTSUPP;
}

}  // namespace

void append_pieces(appended_range& range) {
  for (std::uint32_t pieces = 0; pieces < range.pieces_max; ++pieces) {
    const std::uint64_t done = range.data_bytes + range.hole_bytes;
    if (done == range.bytes || range.data_bytes == range.data_max) return;
    file_piece piece{.fd = range.source, .offset = range.source_offset + done};
    range.failure = find_piece(piece);
    if (range.failure != 0) return;
    const std::uint64_t bytes = std::min(piece.bytes, range.bytes - done);
    if (piece.is_hole) {
      range.hole_bytes += bytes;
      continue;
    }
    if (bytes == 0) continue;  // changed between the two questions
    const std::int64_t copied = append_data(range, bytes);
    range.failure = std::min<std::int64_t>(copied, 0);
    if (copied < 0) return;
    range.data_bytes += static_cast<std::uint64_t>(copied);
  }
}

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
