#include "storage/range_map.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "backend/loop.hpp"
#include "memory/buffer_pool.hpp"
#include "support/scripted_backend.hpp"
#include "support/seeded_data.hpp"

namespace {

using namespace sluice;

constexpr std::uint32_t block_bytes = 4096;
constexpr std::size_t block_count = 8;

struct bench {
  ~bench() {
    map.clear(pool, map.begin());
    CHECK(pool.left() == nodes_max);
    CHECK(blocks.free_blocks() == block_count);
  }

  // The bytes [from, from + count) of a block.
  std::uint64_t put(const lease& block, std::uint32_t from, std::uint32_t count,
                    std::uint64_t offset) {
    return map.put(pool, block.part(from, count), block.bytes().subspan(from, count), offset);
  }
  std::size_t pieces() { return static_cast<std::size_t>(std::distance(map.begin(), map.end())); }

  static constexpr std::size_t nodes_max = 4096;
  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  alignas(block_bytes) std::array<std::byte, block_bytes * block_count> memory{};
  buffer_class blocks{memory, block_bytes, on, counters.memory};
  piece_pool pool{nodes_max};
  range_map map;
};

// What a file would show, as plainly as it can be said.
struct plain_file {
  std::array<const std::byte*, 2048> at{};  // by offset: where the newest byte lies

  std::uint64_t put(const std::byte* data, std::uint64_t count, std::uint64_t offset) {
    std::uint64_t replaced = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      replaced += at[offset + i] != nullptr;
      at[offset + i] = data + i;
    }
    return replaced;
  }
};

// Every view of the map is what the plain file has there, and ends where something else begins.
void check_same(const range_map& map, const plain_file& file) {
  for (std::uint64_t offset = 0; offset < file.at.size();) {
    const range_map::view seen = map.look(offset, file.at.size());
    REQUIRE(seen.bytes > 0);
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < seen.bytes; ++i) {
      wrong += file.at[offset + i] != (seen.data != nullptr ? seen.data + i : nullptr);
    }
    CHECK(wrong == 0);
    offset += seen.bytes;
  }
}

}  // namespace

TEST_CASE("whatever is put over what, every byte is the newest") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    bench b;
    plain_file file;
    support::seeded_random random(seed);
    std::vector<lease> blocks;
    for (std::size_t i = 0; i < block_count; ++i) blocks.push_back(b.blocks.try_take());
    for (int step = 0; step < 200; ++step) {
      const auto count = static_cast<std::uint32_t>(1 + random.below(random.one_in(4) ? 700 : 60));
      const std::uint64_t offset = random.below(file.at.size() - count);
      const lease& block = blocks[random.below(block_count)];
      const auto from = static_cast<std::uint32_t>(random.below(block_bytes - count));
      const std::uint64_t replaced = b.put(block, from, count, offset);
      CHECK(replaced == file.put(block.data() + from, count, offset));
      check_same(b.map, file);
    }
    std::uint64_t end = file.at.size();
    while (end > 0 && file.at[end - 1] == nullptr) --end;
    CHECK(b.map.end_offset() == end);
  }
}

TEST_CASE("a piece that is split holds its block until both parts are gone") {
  bench b;
  lease old = b.blocks.try_take();
  lease young = b.blocks.try_take();
  b.put(old, 0, 1000, 0);
  CHECK(b.put(young, 0, 100, 450) == 100);
  old.reset();
  young.reset();
  CHECK(b.pieces() == 3);
  auto next = b.map.remove(b.pool, b.map.begin(), 2);
  CHECK(b.blocks.free_blocks() == block_count - 1);
  CHECK(next->offset == 550);
  CHECK(next->bytes == 450);
  b.map.remove(b.pool, next, 1);
  CHECK(b.blocks.free_blocks() == block_count);
  CHECK(b.map.empty());
  CHECK(b.map.end_offset() == 0);
}

TEST_CASE("pieces that are covered give their blocks back at once") {
  bench b;
  for (std::uint64_t i = 0; i < 5; ++i) b.put(b.blocks.try_take(), 0, 100, i * 200);
  CHECK(b.blocks.free_blocks() == block_count - 5);
  CHECK(b.put(b.blocks.try_take(), 0, 1000, 0) == 500);
  CHECK(b.blocks.free_blocks() == block_count - 1);
  CHECK(b.pieces() == 1);
}

TEST_CASE("a gap is told up to the next piece or the end asked for") {
  bench b;
  b.put(b.blocks.try_take(), 0, 100, 1000);
  CHECK(b.map.look(0, 500).data == nullptr);
  CHECK(b.map.look(0, 500).bytes == 500);
  CHECK(b.map.look(0, 5000).bytes == 1000);
  CHECK(b.map.look(1050, 5000).bytes == 50);
  CHECK(b.map.look(1050, 1060).bytes == 10);
  CHECK(b.map.look(1100, 5000).data == nullptr);
  CHECK(b.map.look(1100, 5000).bytes == 3900);
}

TEST_CASE("no put takes more nodes than is said, and all come back") {
  bench b;
  lease block = b.blocks.try_take();
  b.put(block, 0, 2000, 0);
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::size_t before = b.pool.left();
    b.put(block, 0, 10, i * 100 + 50);
    CHECK(before - b.pool.left() <= range_map::nodes_per_put);
  }
}
