#include "layout.hpp"

namespace bt {

layout::layout(std::uint64_t piece_bytes, std::span<const std::uint64_t> file_bytes)
    : piece_bytes_(piece_bytes) {
  std::uint64_t end = 0;
  for (const std::uint64_t bytes : file_bytes) ends_.push_back(end += bytes);
  pieces_ = static_cast<std::uint32_t>((end + piece_bytes - 1) / piece_bytes);
}

std::size_t layout::file_at(std::uint64_t offset) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(ends_, offset) - ends_.begin());
}

}  // namespace bt
