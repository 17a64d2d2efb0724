#include "storage/range_map.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace sluice {

// Pieces do not overlap, so they end in the order they begin in.
template <class Set>
auto range_map::first_ending_behind(Set& pieces, std::uint64_t offset) {
  auto found = pieces.upper_bound(offset, by_offset{});
  if (found != pieces.begin() && std::prev(found)->end() > offset) --found;
  return found;
}

std::uint64_t range_map::put(piece_pool& from, lease block, std::span<const std::byte> bytes,
                             std::uint64_t offset) {
  assert(!bytes.empty() && bytes.data() >= block.data());
  assert(bytes.data() + bytes.size() <= block.data() + block.size());
  const std::uint64_t replaced = cut(from, offset, offset + bytes.size());
  write_piece& p = from.take();
  p.block = std::move(block);
  p.data = bytes.data();
  p.offset = offset;
  p.bytes = static_cast<std::uint32_t>(bytes.size());
  pieces_.insert(p);
  return replaced;
}

// Frees [begin, end): a piece may lose its head, its tail, its middle or all of itself.
std::uint64_t range_map::cut(piece_pool& pool, std::uint64_t begin, std::uint64_t end) {
  std::uint64_t gone = 0;
  auto at = first_ending_behind(pieces_, begin);
  while (at != pieces_.end() && at->offset < end) {
    write_piece& old = *at;
    gone += std::min(end, old.end()) - std::max(begin, old.offset);
    if (old.end() > end) split(pool, at, end);
    if (old.offset < begin) {
      old.bytes = static_cast<std::uint32_t>(begin - old.offset);
      ++at;
    } else {
      at = remove(pool, at, 1);
    }
  }
  return gone;
}

// Makes two of one; `at` lies within it.
void range_map::split(piece_pool& pool, iterator which, std::uint64_t at) {
  write_piece& front = *which;
  write_piece& back = pool.take();
  const auto front_bytes = static_cast<std::uint32_t>(at - front.offset);
  back.data = front.data + front_bytes;
  back.bytes = front.bytes - front_bytes;
  back.offset = at;
  back.block =
      front.block.part(static_cast<std::uint32_t>(back.data - front.block.data()), back.bytes);
  front.bytes = front_bytes;
  pieces_.insert(std::next(which), back);
}

range_map::iterator range_map::remove(piece_pool& into, iterator first, std::size_t count) {
  for (; count > 0; --count) {
    write_piece& p = *first;
    first = pieces_.erase(first);
    p.block.reset();
    into.give_back(p);
  }
  return first;
}

void range_map::clear(piece_pool& into, iterator first) {
  while (first != pieces_.end()) first = remove(into, first, 1);
}

range_map::view range_map::look(std::uint64_t offset, std::uint64_t end) const {
  const auto found = first_ending_behind(pieces_, offset);
  if (found == pieces_.end() || found->offset >= end) return {nullptr, end - offset};
  if (found->offset > offset) return {nullptr, found->offset - offset};
  return {found->data + (offset - found->offset), std::min(found->end(), end) - offset};
}

}  // namespace sluice
