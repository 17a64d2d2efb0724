#include "memory/provided_buffers.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "backend/loop.hpp"
#include "backend/ring_backend.hpp"
#include "support/needs_ring.hpp"

namespace {

using namespace sluice;

constexpr std::uint32_t block_bytes = 128 << 10;

// A pool of `blocks` blocks, for a ring whose queue has room for `completions`.
struct rig {
  explicit rig(std::size_t blocks, unsigned completions = 4096)
      : memory(std::make_unique<std::byte[]>(blocks * block_bytes)) {
    kernel::capability_table found;
    tuning::ring_knobs settings;
    settings.entries = 8;
    settings.completion_entries = completions;
    auto made = ring_backend::make(settings, {}, counters, found);
    REQUIRE(made.has_value());
    ring = std::move(*made);
    on = std::make_unique<loop>(*ring, counters);
    pool = std::make_unique<buffer_class>(std::span(memory.get(), blocks * block_bytes),
                                          block_bytes, *on, counters.memory);
  }
  std::unique_ptr<std::byte[]> memory;
  tuning::counters counters;
  std::unique_ptr<ring_backend> ring;
  std::unique_ptr<loop> on;
  std::unique_ptr<buffer_class> pool;
};

}  // namespace

TEST_CASE("blocks are taken with the first user and given back with the last") {
  rig r(16);
  provided_buffers buffers(*r.ring, *r.pool, 2 * block_bytes);
  CHECK(r.pool->free_blocks() == 16);
  CHECK(buffers.join() == 0);
  CHECK(r.pool->free_blocks() == 14);
  CHECK(buffers.join() == 0);
  CHECK(r.pool->free_blocks() == 14);
  buffers.leave();
  CHECK(r.pool->free_blocks() == 14);
  buffers.leave();
  CHECK(r.pool->free_blocks() == 16);
  CHECK(buffers.join() == 0);  // and again
  buffers.leave();
}

TEST_CASE("a quarter of the pool at most, one block at least, none of its last half") {
  rig r(16);
  provided_buffers much(*r.ring, *r.pool, 1 << 30);
  CHECK(much.join() == 0);
  CHECK(r.pool->free_blocks() == 12);
  much.leave();
  provided_buffers little(*r.ring, *r.pool, 1);
  CHECK(little.join() == 0);
  CHECK(r.pool->free_blocks() == 15);
  little.leave();
  std::vector<lease> others;
  for (int i = 0; i < 8; ++i) others.push_back(r.pool->try_take());
  CHECK(much.join() == ENOBUFS);
  others.pop_back();
  CHECK(much.join() == 0);
  CHECK(r.pool->free_blocks() == 8);
  much.leave();
}

TEST_CASE("no more buffers than the completion queue has room for") {
  rig r(16, 32);
  provided_buffers buffers(*r.ring, *r.pool, 4 * block_bytes);
  CHECK(r.ring->buffers_max() == 2);
  CHECK(buffers.join() == 0);
  CHECK(buffers.fair_share() == 1);
  buffers.leave();
}

TEST_CASE("what came stands in the chain of its stream, in order, until it is given back") {
  rig r(16);
  provided_buffers buffers(*r.ring, *r.pool, 4 * block_bytes);  // eight of 64 KiB
  REQUIRE(buffers.join() == 0);
  buffer_chain one;
  buffer_chain other;
  buffers.append(one, 0, 10);
  buffers.append(other, 1, (64 << 10) + 1);
  buffers.append(one, 3, 20);
  CHECK(one.count() == 2);
  CHECK(other.count() == 2);
  const std::span<std::byte> first = buffers.front(one);
  CHECK(first.size() == 10);
  buffers.give_back_front(one);
  CHECK(buffers.front(one).size() == 20);
  CHECK(buffers.front(one).data() != first.data());
  CHECK(buffers.front(other).size() == 64 << 10);
  buffers.give_back_front(other);
  CHECK(buffers.front(other).size() == 1);
  buffers.give_back(one);
  buffers.give_back(other);
  CHECK(one.empty());
  CHECK(other.empty());
  // Behind those that were never taken, in the order in which they came back.
  buffers.append(one, 7, (64 << 10) + 5);
  buffers.give_back_front(one);
  CHECK(buffers.front(one).size() == 5);
  CHECK(buffers.front(one).data() == first.data());
  buffers.give_back(one);
  buffers.leave();
}
