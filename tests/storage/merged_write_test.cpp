#include "storage/merged_write.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <climits>
#include <vector>

#include "backend/loop.hpp"
#include "memory/buffer_pool.hpp"
#include "storage/file_state.hpp"
#include "support/scripted_backend.hpp"

namespace {

using namespace sluice;

constexpr std::uint32_t block_bytes = 16 * 1024;
constexpr std::size_t block_count = 8;
constexpr write_target cached_only{.cached = 4, .direct = -1, .alignment = {}};
constexpr write_target both{.cached = 4, .direct = 5, .alignment = {512, 1024}};

struct bench {
  ~bench() {
    map.clear(pool, map.begin());
    CHECK(blocks.free_blocks() == block_count);
  }

  // The bytes [from, from + count) of a block, as if it lay in that registered buffer.
  void put(const lease& block, std::uint32_t from, std::uint32_t count, std::uint64_t offset,
           std::int32_t buffer_index = -1) {
    blocks.share(block.data());
    const lease of_buffer(&blocks, block.data(), block.size(), buffer_index);
    map.put(pool, of_buffer.part(from, count), block.bytes().subspan(from, count), offset);
  }
  // All runs of the map: their requests, and how many pieces each took.
  struct seen {
    int fd;
    op_kind kind;
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint64_t vectors;
    std::size_t pieces;
    bool operator==(const seen&) const = default;
  };
  std::vector<seen> runs(const write_target& target) {
    std::vector<seen> all;
    for (write_piece* next = &*map.begin(); next != nullptr;) {
      write_piece* const first = next;
      next = run.take(*first, map, target);
      const op_request r = run.request(target);
      CHECK(&run.first() == first);
      CHECK(run.is_fixed() == (r.kind == op_kind::write_fixed || r.kind == op_kind::writev_fixed));
      CHECK((run.access() == write_access::direct) == (r.fd == target.direct));
      all.push_back(
          {r.fd, r.kind, r.offset, run.bytes(), run.has_vectors() ? r.length : 1, run.pieces()});
      if (!run.has_vectors()) CHECK(r.length == run.bytes());
    }
    return all;
  }

  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  alignas(4096) static inline std::array<std::byte, block_bytes * block_count> memory;
  buffer_class blocks{memory, block_bytes, on, counters.memory};
  piece_pool pool{2 * IOV_MAX};
  range_map map;
  merged_write run;
};

}  // namespace

TEST_CASE("a run ends at a gap, and what is adjacent in memory too shares a vector") {
  bench b;
  const lease one = b.blocks.try_take();
  const lease other = b.blocks.try_take();
  b.put(one, 0, 100, 1000);
  b.put(one, 100, 50, 1100);
  b.put(other, 0, 10, 1150);
  b.put(one, 150, 5, 1161);  // a byte is missing before it
  CHECK(b.runs(cached_only) == std::vector<bench::seen>{{4, op_kind::writev, 1000, 160, 2, 3},
                                                        {4, op_kind::write, 1161, 5, 1, 1}});
}

TEST_CASE("a run is direct as far as its pieces are aligned in the file and in memory") {
  bench b;
  const lease one = b.blocks.try_take();
  b.put(one, 0, 1024, 0);
  b.put(one, 2048, 2048, 1024);
  b.put(one, 5120, 512, 3072);   // no multiple of the unit of offsets
  b.put(one, 4097, 1024, 3584);  // odd memory
  b.put(one, 7168, 1024, 5120);
  CHECK(b.runs(both) == std::vector<bench::seen>{{5, op_kind::writev, 0, 3072, 2, 2},
                                                 {4, op_kind::writev, 3072, 1536, 2, 2},
                                                 {5, op_kind::write, 5120, 1024, 1, 1}});
  CHECK(b.runs(cached_only) == std::vector<bench::seen>{{4, op_kind::writev, 0, 4608, 4, 4},
                                                        {4, op_kind::write, 5120, 1024, 1, 1}});
}

TEST_CASE("a run from one registered buffer is asked for as one, and a mixed one is not") {
  bench b;
  const lease one = b.blocks.try_take();
  const lease other = b.blocks.try_take();
  b.put(one, 0, 10, 0, 3);
  b.put(other, 0, 10, 10, 3);
  b.put(one, 20, 10, 100, 3);
  b.put(other, 20, 10, 110, 4);
  b.put(other, 30, 10, 200, 4);
  CHECK(b.runs(cached_only) == std::vector<bench::seen>{{4, op_kind::writev_fixed, 0, 20, 2, 2},
                                                        {4, op_kind::writev, 100, 20, 2, 2},
                                                        {4, op_kind::write_fixed, 200, 10, 1, 1}});
  CHECK(b.run.request(cached_only).buffer_index == 4);
}

TEST_CASE("a run has no more vectors than a call takes") {
  bench b;
  const lease one = b.blocks.try_take();
  for (std::uint32_t i = 0; i < IOV_MAX + 5; ++i) b.put(one, 2 * i, 1, i);
  CHECK(b.runs(cached_only) ==
        std::vector<bench::seen>{{4, op_kind::writev, 0, IOV_MAX, IOV_MAX, IOV_MAX},
                                 {4, op_kind::writev, IOV_MAX, 5, 5, 5}});
}

TEST_CASE("what has no disk behind it is written by the loop, up to 512 KiB at a time") {
  bench b;
  const lease one = b.blocks.try_take();
  b.put(one, 0, 4096, 0);
  const auto route_to = [&b](const write_target& target) {
    static_cast<void>(b.run.take(*b.map.begin(), b.map, target));
    return b.run.request(target).route;
  };
  const write_target in_memory{.cached = 4, .direct = -1, .alignment = {}, .in_memory = true};
  CHECK(route_to(in_memory) == op_route::loop_thread);
  CHECK(route_to(cached_only) == op_route::ring_thread);
  CHECK(route_to(both) == op_route::automatic);
  write_target fuse = both;
  fuse.direct_route = op_route::worker;
  CHECK(route_to(fuse) == op_route::worker);
  CHECK(write_route(true, 512 << 10) == op_route::loop_thread);
  CHECK(write_route(true, (512 << 10) + 1) == op_route::ring_thread);
}
