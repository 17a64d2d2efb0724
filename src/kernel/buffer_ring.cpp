#include "kernel/buffer_ring.hpp"

#include <bit>
#include <cassert>
#include <utility>

namespace sluice::kernel {

buffer_ring::buffer_ring(std::vector<std::byte*> buffers, std::uint32_t bytes_each)
    : memory_(std::move(buffers)),
      bytes_each_(bytes_each),
      mask_(std::bit_ceil(static_cast<std::uint32_t>(memory_.size())) - 1),
      buffer_at_(2 * std::size_t{mask_ + 1}),
      place_of_(memory_.size()) {
  assert(!memory_.empty() && memory_.size() <= 1U << 15 && bytes_each > 0);
  const std::size_t bytes = entry_count() * sizeof(io_uring_buf);
  pages_ = std::make_unique<page[]>((bytes + sizeof(page) - 1) / sizeof(page));
  io_uring_buf_ring_init(entries());
  for (std::size_t i = 0; i < memory_.size(); ++i) give(static_cast<std::uint16_t>(i));
}

void buffer_ring::give(std::uint16_t buffer) {
  buffer_at_[given_ % buffer_at_.size()] = buffer;
  place_of_[buffer] = given_++;
  io_uring_buf_ring_add(entries(), memory_[buffer], bytes_each_, buffer, static_cast<int>(mask_),
                        0);
  io_uring_buf_ring_advance(entries(), 1);
}

}  // namespace sluice::kernel
