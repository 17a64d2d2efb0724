// Where the bytes of a torrent lie: its files one after the other, cut into pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bt {

inline constexpr std::uint32_t block_bytes = 16 << 10;  // what is asked for at a time (BEP 3)

inline constexpr int no_descriptor = -1;  // of a file that is nothing but zeroes (BEP 47)

// A range of one file.
struct segment {
  std::size_t file = 0;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t bytes = 0;   // never 0
};

class layout {
 public:
  // piece_bytes > 0; the sum of the files is > 0 and below 2^62.
  layout(std::uint64_t piece_bytes, std::span<const std::uint64_t> file_bytes);

  [[nodiscard]] std::uint64_t total_bytes() const { return ends_.back(); }
  [[nodiscard]] std::uint64_t piece_bytes() const { return piece_bytes_; }
  [[nodiscard]] std::uint32_t pieces() const { return pieces_; }
  [[nodiscard]] std::uint64_t piece_offset(std::uint32_t piece) const {
    return piece * piece_bytes_;
  }
  [[nodiscard]] std::uint64_t bytes_of(std::uint32_t piece) const {  // the last one may be shorter
    return std::min(piece_bytes_, total_bytes() - piece_offset(piece));
  }
  [[nodiscard]] std::uint32_t blocks_of(std::uint32_t piece) const {
    return static_cast<std::uint32_t>((bytes_of(piece) + block_bytes - 1) / block_bytes);
  }
  [[nodiscard]] std::uint64_t file_offset(std::size_t file) const {  // of its first byte
    return file == 0 ? 0 : ends_[file - 1];
  }
  [[nodiscard]] std::uint64_t file_bytes(std::size_t file) const {
    return ends_[file] - file_offset(file);
  }

  // Whether the range lies within the piece, and is not empty.
  [[nodiscard]] bool contains(std::uint32_t piece, std::uint64_t begin, std::uint64_t bytes) const {
    return piece < pieces_ && bytes > 0 && begin < bytes_of(piece) &&
           bytes <= bytes_of(piece) - begin;
  }

  // Calls `each(segment)` for the files under [offset, offset + bytes), in their order, until one
  // call returns false. Whether none did. The range must lie within the torrent.
  template <class Each>
  bool for_each(std::uint64_t offset, std::uint64_t bytes, Each each) const {
    std::size_t file = file_at(offset);
    for (; bytes > 0; ++file) {
      const std::uint64_t here = std::min(bytes, ends_[file] - offset);
      if (here == 0) continue;  // an empty file
      if (!each(segment{file, offset - file_offset(file), here})) return false;
      offset += here;
      bytes -= here;
    }
    return true;
  }

 private:
  [[nodiscard]] std::size_t file_at(std::uint64_t offset) const;
  std::uint64_t piece_bytes_;
  std::uint32_t pieces_ = 0;
  std::vector<std::uint64_t> ends_;  // of the files, in the torrent
};

}  // namespace bt
