#include "memory/buffer_pool.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "backend/loop.hpp"
#include "base/poison.hpp"
#include "support/dies.hpp"
#include "support/scripted_backend.hpp"
#include "support/seeded_data.hpp"
#include "support/taker.hpp"

namespace {

using namespace sluice;

constexpr std::uint32_t block_bytes = 4096;

struct free_memory {
  void operator()(void* at) const { std::free(at); }
};

struct bench {
  explicit bench(std::size_t blocks)
      : memory(std::aligned_alloc(4096, blocks * block_bytes)),
        pool({static_cast<std::byte*>(memory.get()), blocks * block_bytes}, block_bytes, on,
             counters.memory) {}

  void turn() { on.turn(0, 1000); }

  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  std::unique_ptr<void, free_memory> memory;
  buffer_class pool;
};

struct taker : support::taker<lease> {
  explicit taker(bench& b, std::chrono::nanoseconds timeout = {})
      : support::taker<lease>(b.on, take(b, timeout)) {}
  static task<result<lease>> take(bench& b, std::chrono::nanoseconds timeout) {
    co_return co_await lease_await(b.pool, b.on, timeout);
  }
};

TEST_CASE("every block is given once, page-aligned and of its size, until none is left") {
  bench b(4);
  CHECK(b.pool.blocks() == 4);
  std::vector<lease> held;
  for (std::size_t i = 0; i < 4; ++i) {
    held.push_back(b.pool.try_take());
    REQUIRE(held.back());
    CHECK(held.back().size() == block_bytes);
    CHECK(held.back().bytes().size() == block_bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(held.back().data()) % 4096 == 0);
    CHECK(held.back().buffer_index() == -1);
    support::fill_pattern(held.back().bytes(), i, 0);
  }
  CHECK_FALSE(b.pool.try_take());
  CHECK(b.pool.free_blocks() == 0);
  CHECK(b.counters.memory.leases_in_use.get() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(support::is_pattern(held[i].bytes(), i, 0));
}

TEST_CASE("the block given back last is taken first: it is the one in the cache") {
  bench b(4);
  lease first = b.pool.try_take();
  lease second = b.pool.try_take();
  const std::byte* hot = first.data();
  const std::byte* hotter = second.data();
  first.reset();
  second.reset();
  lease again = b.pool.try_take();
  CHECK(again.data() == hotter);
  lease and_again = b.pool.try_take();
  CHECK(and_again.data() == hot);
}

TEST_CASE("a lease is given back by its last owner, once") {
  bench b(2);
  {
    lease first = b.pool.try_take();
    lease second(std::move(first));
    CHECK_FALSE(first);
    lease third;
    third = std::move(second);
    CHECK(b.pool.free_blocks() == 1);
    third = b.pool.try_take();  // gives back what it had
    CHECK(b.pool.free_blocks() == 1);
    lease& itself = third;
    third = std::move(itself);
    CHECK(third);
    third.reset();
    third.reset();
    CHECK(b.pool.free_blocks() == 2);
  }
  CHECK(b.pool.free_blocks() == 2);
  CHECK(b.counters.memory.leases_in_use.get() == 0);
  CHECK(b.counters.memory.leases_taken.get() == 2);
}

TEST_CASE("a shared block goes back with the last of its leases, in whatever order they go") {
  for (const bool whole_first : {true, false}) {
    bench b(1);
    lease whole = b.pool.try_take();
    lease middle = whole.part(1024, 2048);
    lease inner = middle.part(1024, 1024);
    CHECK(middle.data() == whole.data() + 1024);
    CHECK(middle.size() == 2048);
    CHECK(inner.data() == whole.data() + 2048);
    CHECK(inner.buffer_index() == whole.buffer_index());
    (whole_first ? whole : inner).reset();
    middle.reset();
    CHECK(b.pool.free_blocks() == 0);
    CHECK(b.counters.memory.leases_in_use.get() == 1);
    (whole_first ? inner : whole).bytes().front() = std::byte{1};  // still theirs to touch
    (whole_first ? inner : whole).reset();
    CHECK(b.pool.free_blocks() == 1);
    CHECK(b.counters.memory.leases_in_use.get() == 0);
  }
}

TEST_CASE("the last part of a shared block hands it to the waiter, whole") {
  bench b(1);
  lease whole = b.pool.try_take();
  lease part = whole.part(4000, 96);
  taker waits(b);
  whole.reset();
  b.turn();
  CHECK_FALSE(waits.ended);
  part.reset();
  b.turn();
  REQUIRE(waits.ended);
  CHECK(waits.held.size() == block_bytes);
  waits.held.reset();
}

TEST_CASE("a part outside its lease, or of none, breaks an assertion") {
  bench b(1);
  const lease whole = b.pool.try_take();
  CHECK(support::dies([&] { (void)whole.part(4000, 97); }));
  CHECK(support::dies([&] { (void)whole.part(4096, 1); }));
  CHECK(support::dies([&] { (void)whole.part(0, 0); }));
  CHECK(support::dies([&] { (void)lease().part(0, 1); }));
}

TEST_CASE("a free block is taken without suspending") {
  bench b(1);
  taker t(b);
  CHECK(t.ended);
  CHECK(t.held);
  CHECK(b.counters.memory.leases_waited.get() == 0);
}

TEST_CASE("who waits longest is served first") {
  bench b(1);
  lease only = b.pool.try_take();
  std::byte* const block = only.data();
  taker first(b);
  taker second(b);
  taker third(b);
  b.turn();
  CHECK_FALSE(first.ended);
  only.reset();
  CHECK_FALSE(first.ended);  // told in the loop's turn, not by whoever gave it back
  CHECK(b.pool.free_blocks() == 0);
  b.turn();
  CHECK(first.held.data() == block);
  first.held.reset();
  b.turn();
  CHECK(second.held.data() == block);
  CHECK_FALSE(third.ended);
  second.held.reset();
  b.turn();
  CHECK(third.held);
  CHECK(b.counters.memory.leases_waited.get() == 3);
  CHECK(b.counters.memory.leases_taken.get() == 4);
  CHECK(b.counters.memory.leases_in_use.get() == 1);
}

TEST_CASE("nobody overtakes a waiter between its block's return and its turn") {
  bench b(1);
  lease only = b.pool.try_take();
  taker waiting(b);
  only.reset();
  CHECK_FALSE(b.pool.try_take());
  b.turn();
  CHECK(waiting.held);
}

TEST_CASE("a cancelled waiter leaves the queue and the next one is served") {
  bench b(1);
  lease only = b.pool.try_take();
  taker first(b);
  taker second(b);
  first.cancel();
  b.turn();
  CHECK(first.error == ECANCELED);
  only.reset();
  b.turn();
  CHECK(second.held);
}

TEST_CASE("a waiter whose time is up leaves the queue with ETIMEDOUT") {
  bench b(1);
  lease only = b.pool.try_take();
  taker hasty(b, std::chrono::milliseconds(1));
  taker patient(b);
  for (int i = 0; i < 100 && !hasty.ended; ++i) b.on.turn(-1, 100);
  CHECK(hasty.error == ETIMEDOUT);
  only.reset();
  b.turn();
  CHECK(patient.held);
}

TEST_CASE("a block handed to a waiter that is cancelled at the same time is not lost") {
  SUBCASE("handed first: the waiter has it") {
    bench b(1);
    lease only = b.pool.try_take();
    taker t(b);
    only.reset();
    t.cancel();
    b.turn();
    CHECK(t.ended);
    t.held.reset();
    CHECK(b.pool.free_blocks() == 1);
    CHECK(b.counters.memory.leases_in_use.get() == 0);
  }
  SUBCASE("cancelled first: the block is free") {
    bench b(1);
    lease only = b.pool.try_take();
    taker t(b);
    t.cancel();
    only.reset();
    CHECK(b.pool.free_blocks() == 1);
    b.turn();
    CHECK(t.error == ECANCELED);
    CHECK(b.pool.free_blocks() == 1);
    CHECK(b.counters.memory.leases_in_use.get() == 0);
  }
}

TEST_CASE("a waiter of a cancelled scope never joins the queue") {
  bench b(1);
  lease only = b.pool.try_take();
  scope s;
  s.cancel(b.on);
  op waiter;
  waiter.complete = [](op&) noexcept {};
  b.pool.wait(waiter, &s);
  CHECK(waiter.state() == op_state::harvested);
  only.reset();
  CHECK(b.pool.free_blocks() == 1);
  b.turn();
  CHECK(waiter.outcome() == -ECANCELED);
}

TEST_CASE("under AddressSanitizer only leased blocks may be touched") {
#ifdef SLUICE_ASAN
  bench b(2);
  const auto* memory = static_cast<const std::byte*>(b.memory.get());
  const auto forbidden = [memory](std::size_t block) {
    return __asan_address_is_poisoned(memory + block * block_bytes) != 0;
  };
  CHECK(forbidden(0));
  lease l = b.pool.try_take();
  CHECK_FALSE(forbidden(0));
  CHECK(forbidden(1));
  l.reset();
  CHECK(forbidden(0));
#endif
}

TEST_CASE("a pool destroyed while a block is leased breaks an assertion") {
  CHECK(support::dies([] {
    auto* kept = new lease;
    bench b(2);
    *kept = b.pool.try_take();
  }));
}

TEST_CASE("takers, returns, cancels and timeouts in any order lose no block") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    support::seeded_random random(seed);
    bench b(6);
    std::vector<std::unique_ptr<taker>> takers;
    for (int i = 0; i < 3000; ++i) {
      if (takers.size() < 20 && random.one_in(2)) {
        takers.push_back(std::make_unique<taker>(
            b, random.one_in(4) ? std::chrono::nanoseconds(1) : std::chrono::nanoseconds(0)));
      }
      if (!takers.empty()) {
        const std::size_t at = random.below(takers.size());
        if (random.one_in(3)) takers[at]->cancel();
        if (random.one_in(2)) takers[at]->held.reset();
        if (takers[at]->ended && !takers[at]->held) {
          std::erase_if(takers, [&](const auto& t) { return t == takers[at]; });
        }
      }
      if (random.one_in(2)) b.turn();
      std::size_t held = 0;
      for (const auto& t : takers) held += t->held ? 1 : 0;
      REQUIRE(held + b.pool.free_blocks() <= 6);
    }
    for (const auto& t : takers) t->cancel();
    b.turn();
    for (const auto& t : takers) REQUIRE(t->ended);
    takers.clear();
    CHECK(b.pool.free_blocks() == 6);
    CHECK(b.counters.memory.leases_in_use.get() == 0);
  }
}

}  // namespace
