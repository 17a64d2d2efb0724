#include "storage/write_batcher.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "backend/loop.hpp"
#include "kernel/clock.hpp"
#include "support/dies.hpp"
#include "support/scripted_backend.hpp"
#include "support/seeded_data.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::scripted_backend;

constexpr std::uint32_t kib = 1024;
constexpr std::uint32_t block_bytes = 64 * kib;
constexpr std::size_t block_count = 64;
constexpr std::uint64_t merge = 16 * kib;
constexpr int cached = 4;
constexpr int direct = 5;
constexpr std::int64_t never_ns = 3'600'000'000'000;

struct written {
  int fd;
  op_kind kind;
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint64_t parts;  // 1 where it is no vector
  bool operator==(const written&) const = default;
};

struct bench {
  explicit bench(write_limits wanted = {}, int direct_fd = -1) {
    limits = wanted;
    if (limits.merge_bytes == 0) limits.merge_bytes = merge;
    if (limits.batch_bytes == 0) limits.batch_bytes = 1 << 30;
    if (limits.pieces_max == 0) limits.pieces_max = 100'000;
    if (limits.delay_ns == 0) limits.delay_ns = never_ns;
    batcher.emplace(on, blocks, counters.write, write_target{cached, direct_fd, {512, 512}},
                    limits);
  }
  ~bench() {
    if (batcher) {
      batcher->abandon();
      turns();
      while (!backend.held().empty()) answer_all();
      turns();
      CHECK_FALSE(batcher->busy());
    }
    batcher.reset();
    CHECK(blocks.free_blocks() == block_count);
    CHECK(on.ops_under_way() == 0);
  }

  void turns(int count = 3) {
    for (int i = 0; i < count; ++i) on.turn(0, 1000);
  }
  // Posts bytes that begin `at` bytes into a block of their own.
  int post(std::uint64_t offset, std::uint32_t bytes, std::uint32_t at = 0) {
    lease block = blocks.try_take();
    REQUIRE(block);
    std::fill_n(block.data() + at, bytes, static_cast<std::byte>(++fill));
    return batcher->post(block, std::as_bytes(block.bytes()).subspan(at, bytes), offset);
  }
  // The same, of a block that lies in a registered buffer.
  int post_registered(std::uint64_t offset, std::uint32_t bytes, std::int32_t buffer_index) {
    const lease block = blocks.try_take();
    REQUIRE(block);
    blocks.share(block.data());
    lease of_buffer(&blocks, block.data(), block.size(), buffer_index);
    const auto own = std::as_bytes(block.bytes()).first(bytes);
    return batcher->post(of_buffer, own, offset);
  }
  // Bytes that lie in a file at that offset; of a registered buffer unless that is -1.
  int post_copy(std::uint64_t offset, std::span<const std::byte> bytes, std::int32_t buffer_index) {
    const lease block = blocks.try_take();
    REQUIRE(block);
    std::ranges::copy(bytes, block.data());
    blocks.share(block.data());
    lease posted(&blocks, block.data(), block.size(), buffer_index);
    const auto own = std::as_bytes(block.bytes()).first(bytes.size());
    return batcher->post(posted, own, offset);
  }
  // What the backend has now, the oldest first.
  std::vector<written> under_way() {
    turns();
    std::vector<written> all;
    for (const op* o : backend.held()) {
      const op_request& r = o->request;
      all.push_back(
          {r.fd, r.kind, r.offset, bytes_of(*o), is_vector(r) ? r.length : std::uint64_t{1}});
    }
    return all;
  }
  static bool is_vector(const op_request& r) {
    return r.kind == op_kind::writev || r.kind == op_kind::writev_fixed;
  }
  static std::uint64_t bytes_of(const op& o) {
    if (!is_vector(o.request)) return o.request.length;
    std::uint64_t bytes = 0;
    const auto* parts = static_cast<const iovec*>(o.request.data);
    for (std::uint64_t i = 0; i < o.request.length; ++i) bytes += parts[i].iov_len;
    return bytes;
  }
  void answer(std::optional<std::int64_t> result = {}) {
    REQUIRE(!backend.held().empty());
    op& o = *backend.held().front();
    backend.answer(o, result ? *result : static_cast<std::int64_t>(bytes_of(o)));
    turns();
  }
  void answer_all() {
    const std::vector<op*> all = backend.held();
    for (op* o : all) backend.answer(*o, static_cast<std::int64_t>(bytes_of(*o)));
    turns();
  }
  bool keeps_back(std::uint64_t begin, std::uint64_t end, std::uint64_t last) {
    return batcher->keeps_back(begin, end, last);
  }
  // The newest byte at an offset that is not yet in the file; 0: none.
  int seen(std::uint64_t offset) {
    const range_map::view found = batcher->look(offset, offset + 1);
    return found.data == nullptr ? 0 : static_cast<int>(*found.data);
  }

  int fill = 0;
  scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  alignas(4096) static inline std::array<std::byte, block_bytes * block_count> memory;
  buffer_class blocks{memory, block_bytes, on, counters.memory};
  write_limits limits;
  std::optional<write_batcher> batcher;
};

// A file in memory that takes no more than `most` bytes of its first write, or of each.
struct reluctant_file {
  std::vector<std::byte> content;
  std::uint64_t most = 0;
  bool every_time = false;
  std::uint64_t cut = 0;  // writes

  std::int64_t take(const op_request& r) {
    const iovec whole{r.data, r.length};
    const bool is_vector = bench::is_vector(r);
    const auto* parts = is_vector ? static_cast<const iovec*>(r.data) : &whole;
    std::uint64_t room = every_time || cut == 0 ? most : content.size();
    std::uint64_t taken = 0;
    for (std::uint64_t i = 0; i < (is_vector ? r.length : 1); ++i) {
      const std::uint64_t bytes = std::min<std::uint64_t>(parts[i].iov_len, room);
      std::memcpy(content.data() + r.offset + taken, parts[i].iov_base, bytes);
      taken += bytes;
      room -= bytes;
      if (bytes < parts[i].iov_len) {
        ++cut;
        break;
      }
    }
    return static_cast<std::int64_t>(taken);
  }
};

// Posts the parts of one stripe and turns until it is stored.
void store(bench& b, std::span<const std::byte> bytes, std::span<const std::size_t> parts,
           std::int32_t buffer_index) {
  std::uint64_t offset = 0;
  for (const std::size_t part : parts) {
    REQUIRE(b.post_copy(offset, bytes.subspan(offset, part), buffer_index) == 0);
    offset += part;
  }
  for (int i = 0; i < 20'000 && b.keeps_back(0, bytes.size(), b.batcher->posted()); ++i)
    b.on.turn(0, 1000);
  b.turns(1);
  b.backend.events.clear();
}

}  // namespace

TEST_CASE("the pieces of a stripe are one write as soon as they fill it, whatever their order") {
  bench b{{.depth = 4}};
  for (const std::uint64_t i : {2U, 0U, 3U}) CHECK(b.post(merge + i * 4 * kib, 4 * kib) == 0);
  CHECK(b.under_way().empty());
  CHECK(b.post(merge + 4 * kib, 4 * kib) == 0);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::writev, merge, merge, 4}});
  CHECK(b.counters.write.full.get() == 1);
  b.answer();
  CHECK(b.blocks.free_blocks() == block_count);
  CHECK(b.batcher->stats().blocks == 4);
  CHECK(b.batcher->stats().ops == 1);
  CHECK(b.batcher->stats().bytes == merge);
  CHECK(b.counters.write.merged.get() == 4);
}

TEST_CASE("adjacent memory shares a vector") {
  bench b{{.depth = 4}};
  lease block = b.blocks.try_take();
  for (const std::uint32_t i : {3U, 1U, 0U, 2U}) {
    lease part = block.part(i * 4 * kib, 4 * kib);
    const auto bytes = std::as_bytes(part.bytes());
    CHECK(b.batcher->post(part, bytes, i * 4 * kib) == 0);
  }
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 0, merge, 1}});
}

TEST_CASE("blocks of one registered buffer are one write from it, blocks of two are not") {
  bench b{{.depth = 4}};
  struct row {
    std::array<std::int32_t, 4> of;  // the buffers of the blocks, by their offset
    op_kind kind;
  };
  const std::array rows{
      row{{7, 7, 7, 7}, op_kind::writev_fixed}, row{{7, 7, 7, 8}, op_kind::writev},
      row{{8, 7, 7, 8}, op_kind::writev},       row{{-1, 7, 7, 7}, op_kind::writev},
      row{{7, 7, -1, 7}, op_kind::writev},      row{{-1, -1, -1, -1}, op_kind::writev},
      row{{0, 0, 0, 0}, op_kind::writev_fixed},
  };
  for (const row& r : rows) {
    CAPTURE(r.of);
    for (const std::uint64_t i : {2U, 0U, 3U, 1U}) {
      CHECK(b.post_registered(i * 4 * kib, 4 * kib, r.of[i]) == 0);
    }
    CHECK(b.under_way() == std::vector<written>{{cached, r.kind, 0, merge, 4}});
    if (r.kind == op_kind::writev_fixed) {
      CHECK(b.backend.held().front()->request.buffer_index == r.of[0]);
    }
    b.answer();
  }
  CHECK(b.counters.write.vectors_fixed.get() == 2);
  CHECK(b.counters.write.ops.get() == rows.size());
  b.post_registered(0, merge, 3);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write_fixed, 0, merge, 1}});
}

TEST_CASE("a short write from a registered buffer goes on from it") {
  bench b{{.depth = 4}};
  for (std::uint64_t i = 0; i < 4; ++i) b.post_registered(i * 4 * kib, 4 * kib, 5);
  CHECK(b.under_way().size() == 1);
  b.answer(5000);
  CHECK(b.under_way() ==
        std::vector<written>{{cached, op_kind::writev_fixed, 5000, merge - 5000, 3}});
  CHECK(b.backend.held().front()->request.buffer_index == 5);
  b.answer();
  CHECK(b.batcher->stats().bytes == merge);
  CHECK(b.counters.write.vectors_fixed.get() == 1);
}

TEST_CASE("a block that lies in several stripes is cut at their borders") {
  bench b{{.depth = 8}};
  CHECK(b.post(merge - 1000, 2 * merge + 3000) == 0);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, merge, merge, 1},
                                              {cached, op_kind::write, 2 * merge, merge, 1}});
  b.batcher->hasten(0, 1 << 30);
  const std::vector<written> all = b.under_way();
  REQUIRE(all.size() == 4);
  CHECK(all[2] == written{cached, op_kind::write, merge - 1000, 1000, 1});
  CHECK(all[3] == written{cached, op_kind::write, 3 * merge, 2000, 1});
}

TEST_CASE("what does not fill its stripe goes after the delay, every run as a write of its own") {
  bench b{{.depth = 4, .delay_ns = 20'000'000}};
  b.post(0, 4 * kib);
  b.post(8 * kib, 1 * kib);
  b.post(9 * kib, 1 * kib);
  CHECK(b.under_way().empty());
  const std::int64_t until = kernel::now_ns() + 5'000'000'000;
  while (b.backend.held().empty() && kernel::now_ns() < until) b.on.turn(5'000'000, 1000);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 0, 4 * kib, 1},
                                              {cached, op_kind::writev, 8 * kib, 2 * kib, 2}});
  CHECK(b.counters.write.aged.get() == 1);
  CHECK(b.counters.timers.fired.get() == 1);
}

TEST_CASE("direct and cached writes are never under way together, and none is left behind") {
  bench b{{.depth = 8}, direct};
  b.post(0, 4 * kib);
  b.post(4 * kib, 4 * kib, 100);  // odd memory
  b.post(8 * kib, 4 * kib);
  b.post(12 * kib, 4 * kib);
  b.post(merge, 1000);  // odd length, in the stripe behind
  b.batcher->hasten(0, 1 << 30);
  CHECK(b.under_way() == std::vector<written>{{direct, op_kind::write, 0, 4 * kib, 1}});
  b.answer();
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 4 * kib, 4 * kib, 1}});
  b.answer();
  CHECK(b.under_way() == std::vector<written>{{direct, op_kind::writev, 8 * kib, 8 * kib, 2}});
  b.answer();
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, merge, 1000, 1}});
  b.answer();
  CHECK(b.batcher->stats().direct_bytes == 12 * kib);
  CHECK(b.blocks.free_blocks() == block_count);
}

TEST_CASE("what overlaps a write under way waits for its end, and is read meanwhile") {
  bench b{{.depth = 8}};
  b.post(0, static_cast<std::uint32_t>(merge));
  CHECK(b.under_way().size() == 1);
  b.post(4 * kib, 4 * kib);
  CHECK(b.seen(0) == 1);
  CHECK(b.seen(4 * kib) == 2);
  CHECK(b.seen(8 * kib) == 1);
  b.batcher->hasten(0, merge);
  CHECK(b.under_way().size() == 1);
  CHECK(b.keeps_back(0, merge, 1));
  b.answer();
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 4 * kib, 4 * kib, 1}});
  CHECK(b.seen(0) == 0);
  CHECK(b.seen(4 * kib) == 2);
  CHECK_FALSE(b.keeps_back(0, merge, 1));
  CHECK(b.keeps_back(0, merge, 2));
  b.answer();
  CHECK_FALSE(b.keeps_back(0, merge, 2));
}

TEST_CASE("replaced bytes are not written, and who waits for them waits for those in their place") {
  bench b{{.depth = 8}};
  b.post(0, 4 * kib);
  b.post(0, 4 * kib);
  CHECK(b.batcher->stats().replaced_bytes == 4 * kib);
  CHECK(b.blocks.free_blocks() == block_count - 1);
  CHECK(b.keeps_back(0, 1, 1));
  b.batcher->hasten(0, 1);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 0, 4 * kib, 1}});
  CHECK(b.keeps_back(0, 1, 1));
  b.answer();
  CHECK_FALSE(b.keeps_back(0, 1, 1));
}

TEST_CASE("what keeps bytes of a range back is looked for in that range only") {
  bench b{{.depth = 8}};
  b.post(0, 1000);
  b.post(5 * merge, 1000);
  CHECK_FALSE(b.keeps_back(merge, 5 * merge, 2));
  CHECK(b.keeps_back(5 * merge + 2000, 6 * merge, 2));
  CHECK(b.keeps_back(0, ~std::uint64_t{0}, 2));
  CHECK(b.batcher->end_offset() == 5 * merge + 1000);
  b.batcher->hasten(5 * merge, ~std::uint64_t{0});
  CHECK(b.under_way().size() == 1);
}

TEST_CASE("no more writes are under way than the depth, and the first due is the first begun") {
  bench b{{.depth = 2}};
  for (std::uint64_t i = 0; i < 5; ++i) b.post(i * merge, static_cast<std::uint32_t>(merge));
  CHECK(b.under_way().size() == 2);
  CHECK(b.counters.write.queued.get() == 3);
  for (std::uint64_t i = 0; i < 5; ++i) {
    CHECK(b.under_way().front().offset == i * merge);
    b.answer();
  }
  CHECK(b.under_way().empty());
}

TEST_CASE("beyond batch_bytes what waits longest goes, so much as keeps the disk busy") {
  bench b{{.batch_bytes = 8 * kib, .depth = 2}};
  for (std::uint64_t i = 0; i < 2; ++i) b.post(i * merge, 4 * kib);
  CHECK(b.under_way().empty());
  for (std::uint64_t i = 2; i < 8; ++i) b.post(i * merge, 4 * kib);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::write, 0, 4 * kib, 1},
                                              {cached, op_kind::write, merge, 4 * kib, 1}});
  while (!b.under_way().empty()) b.answer();
  CHECK(b.counters.write.pressed.get() == 6);  // two may wait
}

TEST_CASE("an arena that runs short has blocks written that would wait") {
  bench b{{.depth = 2}};
  std::vector<lease> others;
  while (!b.blocks.scarce()) others.push_back(b.blocks.try_take());
  b.post(0, 4 * kib);
  CHECK(b.under_way().size() == 1);
}

TEST_CASE("a run of more vectors than a call takes is two writes") {
  bench b{{.merge_bytes = 512 * kib, .depth = 4}};
  lease memory = b.blocks.try_take();
  // Every second four bytes of a block, so that nothing is adjacent.
  for (std::uint32_t i = 0; i < IOV_MAX + 10; ++i) {
    lease part = memory.part(i * 8, 4);
    const auto bytes = std::as_bytes(part.bytes());
    CHECK(b.batcher->post(part, bytes, i * 4) == 0);
  }
  b.batcher->hasten(0, 1);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::writev, 0, IOV_MAX * 4, IOV_MAX},
                                              {cached, op_kind::writev, IOV_MAX * 4, 40, 10}});
}

TEST_CASE("a short write is continued before anything is told of it") {
  bench b{{.depth = 4}};
  for (std::uint64_t i = 0; i < 4; ++i) b.post(i * 4 * kib, 4 * kib);
  CHECK(b.under_way().size() == 1);
  b.answer(5000);
  CHECK(b.keeps_back(0, 1, 1));
  CHECK(b.seen(0) == 1);
  CHECK(b.under_way() == std::vector<written>{{cached, op_kind::writev, 5000, merge - 5000, 3}});
  b.answer();
  CHECK_FALSE(b.keeps_back(0, 1, 1));
  CHECK(b.batcher->stats().bytes == merge);
}

TEST_CASE(
    "whatever the size of the first write, or of every one, all bytes are where they belong") {
  constexpr std::size_t stripe = 4 * kib;
  const std::vector<std::byte> bytes = support::pattern(1, 0, stripe);
  struct layout {
    std::vector<std::size_t> parts;
    std::int32_t buffer_index;
    op_kind kind;
  };
  for (const layout& l :
       {layout{{stripe}, -1, op_kind::write}, layout{{stripe}, 3, op_kind::write_fixed},
        layout{{1 * kib, 2 * kib, 1 * kib}, -1, op_kind::writev},
        layout{{1, 500, 2047, 3, 1545}, 3, op_kind::writev_fixed}}) {
    CAPTURE(static_cast<int>(l.kind));
    bench b{{.merge_bytes = stripe, .depth = 2}};
    reluctant_file file{.content = std::vector<std::byte>(stripe)};
    op_kind seen = op_kind::park;
    b.backend.perform = [&](const op_request& r) {
      seen = r.kind;
      return file.take(r);
    };
    std::size_t wrong = 0;
    for (file.most = 1; file.most < stripe; ++file.most) {
      for (const bool every_time : {false, true}) {
        file.every_time = every_time;
        file.cut = 0;
        std::ranges::fill(file.content, std::byte{});
        store(b, bytes, l.parts, l.buffer_index);
        if (seen != l.kind || !support::same_bytes(file.content, bytes)) ++wrong;
        if (file.cut != (every_time ? (stripe - 1) / file.most : 1)) ++wrong;
      }
    }
    CHECK(wrong == 0);
    CHECK(b.batcher->failure() == 0);
    CHECK(b.batcher->stats().bytes == 2 * (stripe - 1) * stripe);
  }
}

TEST_CASE("the first failure stays: what was not begun is dropped, and all who wait are told") {
  for (const int error : {ENOSPC, EIO, EDQUOT}) {
    bench b{{.depth = 2}};
    for (std::uint64_t i = 0; i < 4; ++i) b.post(i * merge, static_cast<std::uint32_t>(merge));
    b.post(9 * merge, 4 * kib);
    CHECK(b.under_way().size() == 2);
    b.answer(-error);
    CHECK(b.batcher->failure() == error);
    CHECK_FALSE(b.keeps_back(0, ~std::uint64_t{0}, 5));
    CHECK(b.blocks.free_blocks() == block_count - 1);  // one is the kernel's
    CHECK(b.under_way().size() == 1);
    CHECK(b.post(0, 4 * kib) == error);
    CHECK(b.batcher->has_room());
    CHECK(b.seen(0) == 0);
    b.answer(-EPERM);
    CHECK(b.batcher->failure() == error);
    CHECK(b.counters.write.failures.get() == 2);
    CHECK(b.blocks.free_blocks() == block_count);
    CHECK(b.batcher->stats().bytes == 0);
  }
}

TEST_CASE("who posts more than there is room for is told, keeps the block, and can wait") {
  // The least that the largest block may need: one piece, and there is no room.
  bench b{{.depth = 1, .pieces_max = 1}};
  std::uint64_t posted = 0;
  while (b.batcher->has_room()) CHECK(b.post(posted++ * merge, 4 * kib) == 0);
  CHECK(posted > 0);
  lease block = b.blocks.try_take();
  const auto bytes = std::as_bytes(block.bytes());
  CHECK(b.batcher->post(block, bytes, 1 << 30) == EAGAIN);
  CHECK(block);
  support::told_op waiting;
  b.batcher->wait_for_room(waiting, nullptr);
  CHECK(b.under_way().size() == 1);  // pressed
  CHECK(waiting.times_told == 0);
  while (waiting.times_told == 0) b.answer();
  CHECK(b.batcher->has_room());
  CHECK(b.batcher->post(block, bytes, 1 << 30) == 0);
  CHECK(b.counters.write.room_waits.get() == 1);
}

TEST_CASE("a cancelled wait for room is told so and leaves the list") {
  bench b{{.depth = 1, .pieces_max = 1}};
  std::uint64_t posted = 0;
  while (b.batcher->has_room()) b.post(posted++ * merge, 4 * kib);
  scope task;
  support::told_op waiting;
  support::told_op second;
  b.batcher->wait_for_room(waiting, &task);
  task.cancel(b.on);
  b.batcher->wait_for_room(second, &task);
  b.turns();
  CHECK(waiting.told == -ECANCELED);
  CHECK(second.told == -ECANCELED);
}

TEST_CASE("abandoned it is busy until its last write and its timer have ended") {
  bench b{{.depth = 1}};
  b.post(0, static_cast<std::uint32_t>(merge));
  b.post(merge, 4 * kib);
  CHECK(b.under_way().size() == 1);
  b.batcher->abandon();
  b.turns();
  CHECK(b.blocks.free_blocks() == block_count - 1);
  CHECK(b.batcher->busy());
  b.answer();
  CHECK_FALSE(b.batcher->busy());
  CHECK(b.batcher->stats().ops == 1);
}

TEST_CASE("destroyed before its writes have ended it aborts, whatever the build") {
  const std::string said = support::last_words([] {
    bench b{{.depth = 1}};
    b.post(0, static_cast<std::uint32_t>(merge));
    b.batcher.reset();
  });
  CHECK(said == "sluice: a block writer's memory ended before its writes had\n");
}
