#include "kernel/buffer_ring.hpp"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

namespace {

using sluice::kernel::buffer_ring;

struct rig {
  explicit rig(std::size_t count) : memory(count), buffers(addresses(), 100) {}
  std::vector<std::byte*> addresses() {
    std::vector<std::byte*> all;
    for (std::byte& b : memory) all.push_back(&b);
    return all;
  }
  std::vector<std::pair<int, int>> taken(std::uint16_t first, std::size_t bytes) {
    std::vector<std::pair<int, int>> seen;
    buffers.taken(first, bytes, [&](std::uint16_t buffer, std::uint32_t some) {
      seen.emplace_back(buffer, static_cast<int>(some));
    });
    return seen;
  }
  // What the kernel sees at a place of the ring.
  int buffer_at(unsigned place) { return buffers.entries()->bufs[place].bid; }

  std::vector<std::byte> memory;
  buffer_ring buffers;
};

using pieces = std::vector<std::pair<int, int>>;

}  // namespace

TEST_CASE("all buffers are given at first, in a ring of a power of two") {
  rig r(5);
  CHECK(r.buffers.entry_count() == 8);
  CHECK(r.buffers.entries()->tail == 5);
  for (int i = 0; i < 5; ++i) {
    CHECK(r.buffer_at(static_cast<unsigned>(i)) == i);
    CHECK(r.buffers.memory(static_cast<std::uint16_t>(i)) == &r.memory[static_cast<unsigned>(i)]);
  }
  CHECK(reinterpret_cast<std::uintptr_t>(r.buffers.entries()) % 4096 == 0);
}

TEST_CASE("an answer takes the buffers given behind its first, a part of one is one") {
  rig r(4);
  CHECK(r.taken(0, 250) == pieces{{0, 100}, {1, 100}, {2, 50}});
  r.buffers.give(1);
  r.buffers.give(0);
  r.buffers.give(2);
  CHECK(r.taken(3, 400) == pieces{{3, 100}, {1, 100}, {0, 100}, {2, 100}});
}

TEST_CASE("answers may be told in another order than their buffers were taken") {
  rig r(4);
  CHECK(r.taken(2, 200) == pieces{{2, 100}, {3, 100}});
  r.buffers.give(3);
  r.buffers.give(2);
  CHECK(r.taken(0, 200) == pieces{{0, 100}, {1, 100}});
  r.buffers.give(0);
  r.buffers.give(1);
  CHECK(r.taken(3, 400) == pieces{{3, 100}, {2, 100}, {0, 100}, {1, 100}});
}

TEST_CASE("an answer of no bytes still took its buffer") {
  rig r(2);
  CHECK(r.taken(0, 0) == pieces{{0, 0}});
}

TEST_CASE("one buffer goes around for ever") {
  rig r(1);
  CHECK(r.buffers.entry_count() == 1);
  for (int i = 0; i < 70'000; ++i) {
    REQUIRE(r.taken(0, 1) == pieces{{0, 1}});
    r.buffers.give(0);
  }
}
