#include "staging.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace bt {

using sluice::result;
using sluice::task;

namespace {
constexpr std::uint64_t page_bytes = 4096;
}

staging::window* staging::find(const target& of, std::uint64_t begin) {
  const auto at = std::ranges::find_if(
      windows_, [&](const window& w) { return w.of.writer == of.writer && w.begin == begin; });
  return at == windows_.end() ? nullptr : &*at;
}

// Ranges that touch become one.
void staging::fill(window& in, range added) {
  std::erase_if(in.filled, [&added](const range& r) {
    const bool apart = r.end < added.begin || r.begin > added.end;
    if (!apart) added = {std::min(r.begin, added.begin), std::max(r.end, added.end)};
    return !apart;
  });
  const auto place =
      std::ranges::find_if(in.filled, [&added](const range& r) { return r.begin > added.begin; });
  in.filled.insert(place, added);
}

// So that only the end of a file goes through the page cache.
void staging::split_at_last_page(window& full) {
  const std::uint64_t end = full.filled.front().end;
  const std::uint64_t page = end / page_bytes * page_bytes;
  if (page == 0 || page == end) return;
  full.filled = {{0, page}, {page, end}};
}

// An empty window. Others may have made it while this waited for memory.
task<result<void>> staging::make(target of, std::uint64_t begin) {
  while (windows_.size() >= windows_max_) {
    const target oldest = windows_.front().of;
    const result<void> done = co_await hand_over(oldest, windows_.front().begin);
    if (!done) co_return done;
  }
  sluice::lease_await leasing = engine_.acquire_block();
  result<sluice::lease> memory = co_await leasing;
  if (!memory) co_return std::unexpected(memory.error());
  if (find(of, begin) == nullptr) windows_.push_back({of, begin, *std::move(memory), {}});
  co_return result<void>();
}

// Gives a window's ranges to the writer, one by one. Others may add to it while it waits for room
// for the first one; later they wait until it is gone.
task<result<void>> staging::hand_over(target of, std::uint64_t begin) {
  while (window* from = find(of, begin)) {
    if (from->filled.empty()) {
      windows_.erase(windows_.begin() + (from - windows_.data()));
      break;
    }
    if (!of.writer->has_room()) {
      const result<void> room = co_await of.writer->room();
      if (!room) co_return room;
      continue;
    }
    const range part = from->filled.back();
    from->filled.pop_back();
    from->leaving = true;
    sluice::lease memory = from->memory.part(static_cast<std::uint32_t>(part.begin),
                                             static_cast<std::uint32_t>(part.end - part.begin));
    const std::span<const std::byte> bytes = memory.bytes();
    const result<void> posted = of.writer->post(std::move(memory), bytes, from->begin + part.begin);
    if (!posted) co_return posted;
  }
  co_return result<void>();
}

task<result<void>> staging::put(target to, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    if (window_bytes_ == 0) {
      sluice::lease_await leasing = engine_.acquire_block();
      const result<sluice::lease> one = co_await leasing;
      if (!one) co_return std::unexpected(one.error());
      window_bytes_ = one->size();
    }
    const std::uint64_t begin = offset / window_bytes_ * window_bytes_;
    window* into = find(to, begin);
    if (into == nullptr) {
      const result<void> made = co_await make(to, begin);
      if (!made) co_return made;
      continue;
    }
    if (into->leaving) {
      const result<void> gone = co_await hand_over(to, begin);
      if (!gone) co_return gone;
      continue;
    }
    const std::uint64_t at = offset - begin;
    const std::size_t count = std::min<std::uint64_t>(bytes.size(), window_bytes_ - at);
    std::memcpy(into->memory.data() + at, bytes.data(), count);
    fill(*into, {at, at + count});
    bytes = bytes.subspan(count);
    offset += count;
    const std::uint64_t full = std::min(window_bytes_, to.bytes - begin);
    if (into->filled.front().begin > 0 || into->filled.front().end < full) continue;
    split_at_last_page(*into);
    const result<void> done = co_await hand_over(to, begin);
    if (!done) co_return done;
  }
  co_return result<void>();
}

task<result<void>> staging::flush(target of, std::uint64_t offset, std::uint64_t bytes) {
  if (windows_.empty()) co_return result<void>();
  const std::uint64_t end = offset + bytes;
  for (std::uint64_t begin = offset / window_bytes_ * window_bytes_; begin < end;
       begin += window_bytes_) {
    const result<void> done = co_await hand_over(of, begin);
    if (!done) co_return done;
  }
  co_return result<void>();
}

}  // namespace bt
