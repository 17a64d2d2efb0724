#include "piece_checker.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "torrent_world.hpp"

using bt::piece_checker;
using bt_test::world;
using sluice::task;

namespace {

struct checked {
  checked(world& w, std::uint64_t held_bytes_max)
      : on(w), checker(*w.engine, *w.store, w.info.pieces, held_bytes_max) {
    checker.on_verdict([this](std::uint32_t piece, piece_checker::verdict v) { told[piece] = v; },
                       [](const sluice::error& problem) { FAIL(sluice::describe(problem)); });
  }

  // The blocks of a piece arrive in this order.
  task<void> arrive(std::uint32_t piece, std::vector<std::uint32_t> order) {
    const bt::layout& where = on.store->where();
    for (const std::uint32_t index : order) {
      const std::uint32_t begin = index * bt::block_bytes;
      const std::uint64_t bytes =
          std::min<std::uint64_t>(bt::block_bytes, where.bytes_of(piece) - begin);
      sluice::lease share;
      const bool posted = co_await on.post(where.piece_offset(piece) + begin, bytes, &share);
      CHECK(posted);
      const std::span<const std::byte> seen = share.bytes();
      checker.arrived(piece, begin, std::move(share), seen);
    }
  }

  // Whether the digests of the piece's blocks are those of the content.
  task<bool> has_digests(std::uint32_t piece) {
    const piece_checker::digests got = co_await checker.block_digests(piece);
    if (!got) co_return false;
    std::vector<bt::sha1_digest> right;
    std::span<const std::byte> left = on.piece_of(piece);
    while (!left.empty()) {
      const std::size_t bytes = std::min<std::size_t>(left.size(), bt::block_bytes);
      right.push_back(bt::sha1_of(left.first(bytes)));
      left = left.subspan(bytes);
    }
    co_return *got == right;
  }

  world& on;
  piece_checker checker;
  std::map<std::uint32_t, piece_checker::verdict> told;
};

}  // namespace

TEST_CASE("pieces whose blocks come in any order are right, from memory or read back") {
  for (const std::string& backend : support::backends()) {
    for (const std::uint64_t held : {std::uint64_t{1} << 20U, std::uint64_t{0}}) {
      CAPTURE(backend);
      CAPTURE(held);
      world w(backend);
      REQUIRE(w.open());
      checked c(w, held);
      w.engine->spawn(c.arrive(0, {3, 1, 2, 0}));
      w.engine->spawn(c.arrive(1, {0, 1, 2, 3}));
      w.engine->spawn(c.arrive(2, {1, 0}));
      w.engine->run();
      CHECK(c.checker.idle());
      REQUIRE(c.told.size() == 3);
      for (const auto& [piece, verdict] : c.told) CHECK(verdict == piece_checker::verdict::right);
    }
  }
}

TEST_CASE("a piece with one wrong bit is wrong, and right when it has come again") {
  world w("pool");
  REQUIRE(w.open());
  checked c(w, 1 << 20);
  w.content[70'000] ^= std::byte{1};
  w.engine.run(c.arrive(1, {0, 1, 2, 3}));
  REQUIRE(c.told.contains(1));
  CHECK(c.told[1] == piece_checker::verdict::wrong);
  w.content[70'000] ^= std::byte{1};
  w.engine.run(c.arrive(1, {0, 1, 2, 3}));
  CHECK(c.told[1] == piece_checker::verdict::right);
}

TEST_CASE("what waits for more gives its memory back when nothing arrives, and is right later") {
  for (const std::string& backend : support::backends()) {
    world w(backend);
    REQUIRE(w.open());
    checked c(w, 1 << 20);
    w.engine.run(c.arrive(0, {0, 1, 3}));
    w.engine.run(c.arrive(1, {2, 1}));
    CHECK(c.checker.held_bytes() == 5 * bt::block_bytes);
    c.checker.run_ready();
    w.engine->run();
    CHECK(c.checker.held_bytes() == 0);
    CHECK(c.told.empty());
    w.engine.run(c.arrive(0, {2}));
    w.engine.run(c.arrive(1, {3, 0}));
    w.engine->run();
    REQUIRE(c.told.size() == 2);
    for (const auto& [piece, verdict] : c.told) CHECK(verdict == piece_checker::verdict::right);
  }
}

TEST_CASE("a piece that is not whole gets no verdict, and a forgotten one begins anew") {
  world w("pool");
  REQUIRE(w.open());
  checked c(w, 1 << 20);
  w.engine.run(c.arrive(0, {0, 1, 2}));
  CHECK(c.told.empty());
  c.checker.forget(0);
  w.engine.run(c.arrive(0, {3}));
  CHECK(c.told.empty());
  w.engine.run(c.arrive(0, {0, 1, 2}));
  CHECK(c.told[0] == piece_checker::verdict::right);
  c.checker.forget(7);  // nobody knows it
}

TEST_CASE("the blocks of a piece have digests of their own, posted or stored, right or wrong") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    w.info.piece_bytes = 640 << 10;  // more than a block of the pool
    w.info.files = {{"t/a", 700'001}, {"t/b", 90'000}};
    const bt::layout where = w.info.layout();
    w.content = support::pattern(12, 0, where.total_bytes());
    w.info.pieces.assign(where.pieces(), bt::sha1_digest{});
    REQUIRE(w.open());
    checked c(w, 0);
    for (std::uint32_t piece = 0; piece < 2; ++piece) {
      std::vector<std::uint32_t> order(where.blocks_of(piece));
      std::iota(order.begin(), order.end(), 0U);
      w.engine.run(c.arrive(piece, order));
      w.engine->run();
      CHECK(c.told[piece] == piece_checker::verdict::wrong);
      CHECK(w.engine.run(c.has_digests(piece)));
    }
    REQUIRE(w.engine.run(w.store->commit()).has_value());
    CHECK(w.engine.run(c.has_digests(0)));
    CHECK(c.checker.idle());
    w.content[100'000] ^= std::byte{1};
    CHECK_FALSE(w.engine.run(c.has_digests(0)));
  }
}
