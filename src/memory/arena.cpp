#include "memory/arena.hpp"

#include <cerrno>

namespace sluice {
namespace {

kernel::page_wish wish_of(tuning::huge_pages_choice choice) {
  switch (choice) {
    case tuning::huge_pages_choice::always: return kernel::page_wish::huge_reserved;
    case tuning::huge_pages_choice::never: return kernel::page_wish::small;
    default: return kernel::page_wish::huge_if_possible;
  }
}

constexpr std::size_t blocks_min = 2;  // one to receive into while the other is written

}  // namespace

result<arena> arena::make(const tuning::memory_knobs& settings) {
  const std::size_t block = settings.block_bytes;
  const std::size_t head_bytes = settings.head_blocks * settings.head_bytes;
  const std::size_t heads = (head_bytes + block - 1) / block * block;
  if (heads + blocks_min * block > settings.arena_bytes) {
    return fail(EINVAL, "arena", "sluice.memory.arena_bytes below the sum of its blocks");
  }
  const std::size_t data = (settings.arena_bytes - heads) / block * block;
  result<kernel::memory_map> map =
      kernel::memory_map::make(data + heads, wish_of(settings.huge_pages));
  if (!map) return std::unexpected(map.error());
  arena made(std::move(*map));
  made.blocks_ = {made.map_.data(), data};
  made.heads_ = {made.map_.data() + data, head_bytes};
  return made;
}

}  // namespace sluice
