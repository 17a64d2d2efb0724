#include "memory/registration.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "backend/ring_backend.hpp"

namespace sluice {
namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
constexpr std::size_t slots_max = std::size_t{1} << 14;  // IORING_MAX_REG_BUFFERS

}  // namespace

// Worked example: 64 MiB of 256 KiB blocks: 2 MiB slices, 32 of them. 1 TiB: 1 TiB / 16384 = 64 MiB
// slices.
std::size_t slice_bytes_for(std::size_t arena_bytes, std::size_t block_bytes) {
  const std::size_t smallest = (arena_bytes + slots_max - 1) / slots_max;
  return std::bit_ceil(std::max({huge_page_bytes, block_bytes, smallest}));
}

registration::registration(ring_backend& ring, std::span<std::byte> arena, std::size_t block_bytes,
                           tuning::memory_counters& counters, std::function<void(int)> refused)
    : ring_(ring),
      arena_(arena),
      slice_bytes_(slice_bytes_for(arena.size(), block_bytes)),
      state_((arena.size() + slice_bytes_ - 1) / slice_bytes_, slice_state::untouched),
      counters_(counters),
      refused_(std::move(refused)) {}

int registration::open() { return ring_.open_buffer_table(static_cast<unsigned>(state_.size())); }

std::int32_t registration::index_of(const std::byte* block) {
  const auto index = static_cast<std::size_t>(block - arena_.data()) / slice_bytes_;
  if (state_[index] == slice_state::untouched) {
    state_[index] = register_slice(index) ? slice_state::registered : slice_state::refused;
  }
  return state_[index] == slice_state::registered ? static_cast<std::int32_t>(index) : -1;
}

bool registration::register_slice(std::size_t index) {
  if (full_) return false;
  const std::size_t from = index * slice_bytes_;
  const std::size_t bytes = std::min(slice_bytes_, arena_.size() - from);
  const int refusal =
      ring_.register_buffer(static_cast<unsigned>(index), {arena_.data() + from, bytes});
  if (refusal == 0) {
    counters_.registered_bytes.add(bytes);
    return true;
  }
  full_ = true;
  refused_(refusal);
  return false;
}

}  // namespace sluice
