#include "memory/pipe_pool.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "backend/loop.hpp"
#include "sluice/engine.hpp"
#include "support/all_given_back.hpp"
#include "support/scripted_backend.hpp"
#include "support/taker.hpp"

namespace {

using namespace sluice;

constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

tuning::splice_knobs knobs_for(std::uint32_t pipes_max) {
  tuning::splice_knobs knobs;
  knobs.pipe_bytes = 65'536;
  knobs.pipes_max = pipes_max;
  return knobs;
}

struct bench {
  explicit bench(std::uint32_t pipes_max, std::uint64_t per_user = no_limit)
      : pool(knobs_for(pipes_max), per_user, on, counters.splice) {}
  void turn() { on.turn(0, 1000); }

  support::all_given_back watch;
  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  pipe_pool pool;
};

struct taker : support::taker<pipe_lease> {
  explicit taker(bench& b, std::chrono::nanoseconds timeout = {})
      : support::taker<pipe_lease>(b.on, take(b, timeout)) {}
  static task<result<pipe_lease>> take(bench& b, std::chrono::nanoseconds timeout) {
    pipe_await taking = b.pool.take(timeout);
    co_return co_await taking;
  }
};

TEST_CASE("a pipe is made when it is needed, and the one used last is used again") {
  bench b(4);
  CHECK(b.counters.splice.pipes.get() == 0);
  taker first(b);
  taker second(b);
  REQUIRE(first.held);
  REQUIRE(second.held);
  CHECK(b.counters.splice.pipes.get() == 2);
  CHECK(b.pool.taken() == 2);
  const int last = (*second.held).read_end();
  first.held.reset();
  second.held.reset();
  CHECK(b.pool.taken() == 0);
  const taker again(b);
  CHECK((*again.held).read_end() == last);
  CHECK(b.counters.splice.pipes.get() == 2);
  CHECK(b.counters.splice.pipes_taken.get() == 3);
  CHECK(b.counters.splice.pipes_dropped.get() == 0);
}

TEST_CASE("those who wait are served in their order") {
  bench b(1);
  taker first(b);
  taker second(b);
  taker third(b);
  CHECK_FALSE(second.ended);
  CHECK(b.counters.splice.pipes_waited.get() == 2);
  first.held.reset();
  b.turn();
  CHECK(second.held);
  CHECK_FALSE(third.ended);
  second.held.reset();
  b.turn();
  CHECK(third.held);
  CHECK(b.counters.splice.pipes.get() == 1);
}

TEST_CASE("a pipe with bytes in it is closed, and who waits gets a new one") {
  bench b(1);
  taker first(b);
  taker second(b);
  REQUIRE(::write((*first.held).write_end(), "foreign", 7) == 7);
  first.held.reset();
  b.turn();
  REQUIRE(second.held);
  CHECK((*second.held).is_empty());
  CHECK(b.counters.splice.pipes_dropped.get() == 1);
  CHECK(b.counters.splice.pipes.get() == 1);
}

TEST_CASE("a cancelled waiter gets none, and does not keep the next from one") {
  bench b(1);
  taker first(b);
  taker second(b);
  taker third(b);
  second.cancel();
  b.turn();
  CHECK(second.ended);
  CHECK(second.error == ECANCELED);
  first.held.reset();
  b.turn();
  CHECK(third.held);
}

TEST_CASE("who waits for as long as it may is told ETIMEDOUT, and keeps no pipe from the next") {
  bench b(1);
  taker first(b);
  taker second(b, std::chrono::microseconds(1));
  taker third(b);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  b.turn();
  CHECK(second.ended);
  CHECK(second.error == ETIMEDOUT);
  CHECK_FALSE(third.ended);
  first.held.reset();
  b.turn();
  CHECK(third.held);
}

TEST_CASE("a pipe granted in the turn of a cancel is not lost") {
  bench b(1);
  taker first(b);
  taker second(b);
  first.held.reset();
  second.cancel();
  b.turn();
  CHECK(second.ended);
  second.held.reset();
  CHECK(b.pool.taken() == 0);
}

TEST_CASE("half of what a user may have is left to others, but one pipe there is") {
  CHECK(bench(32, 10).pool.pipes_max() == 5);
  CHECK(bench(32, 1000).pool.pipes_max() == 32);
  CHECK(bench(32, 1).pool.pipes_max() == 1);
  CHECK(bench(32, 0).pool.pipes_max() == 1);
}

// Takes all descriptors away, for as long as it lives.
class no_descriptors {
 public:
  no_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~no_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_CASE("without descriptors the first is told so, and a later one waits for those there are") {
  bench b(4);
  {
    const no_descriptors none;
    const taker first(b);
    CHECK(first.error == EMFILE);
  }
  taker second(b);
  REQUIRE(second.held);
  std::unique_ptr<taker> third;
  {
    const no_descriptors none;
    third = std::make_unique<taker>(b);
  }
  CHECK_FALSE(third->ended);
  CHECK(b.pool.shortage() == EMFILE);
  second.held.reset();
  b.turn();
  CHECK(third->held);
  CHECK(b.pool.shortage() == 0);
}

TEST_CASE("who waited in vain because no further pipe could be made is told why") {
  bench b(2);
  taker first(b);
  REQUIRE(first.held);
  std::unique_ptr<taker> second;
  {
    const no_descriptors none;
    second = std::make_unique<taker>(b, std::chrono::milliseconds(1));
  }
  const taker made(b);  // there are descriptors again
  taker third(b, std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  b.turn();
  CHECK(second->error == EMFILE);
  CHECK(third.error == ETIMEDOUT);
}

TEST_CASE("when the last pipe is lost and none can be made, all who wait are told") {
  bench b(1);
  taker first(b);
  taker second(b);
  taker third(b);
  REQUIRE(::write((*first.held).write_end(), "x", 1) == 1);
  {
    const no_descriptors none;
    first.held.reset();
  }
  b.turn();
  CHECK(second.error == EMFILE);
  CHECK(third.error == EMFILE);
  CHECK(b.counters.splice.pipes.get() == 0);
}

}  // namespace
