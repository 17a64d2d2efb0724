#include "transfer/stall_watch.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <limits>

namespace {

using namespace sluice;
using namespace std::chrono_literals;

TEST_CASE("an interval is the longest silence, else thirty seconds to measure a rate, else none") {
  CHECK(stall_watch({5000, 0}).interval() == 5s);
  CHECK(stall_watch({5000, 100}).interval() == 5s);
  CHECK(stall_watch({0, 100}).interval() == 30s);
  CHECK(stall_watch({0, 0}).interval() == 0s);
}

TEST_CASE("silence is ETIMEDOUT, too little is too slow, enough goes on") {
  struct row {
    stall_limits limits;
    std::uint64_t bytes;
    int verdict;
  };
  constexpr std::array rows{
      row{{5000, 0}, 0, ETIMEDOUT},
      row{{5000, 0}, 1, 0},  // no rate asked for
      row{{5000, 1000}, 0, ETIMEDOUT},
      row{{5000, 1000}, 4999, code::too_slow},
      row{{5000, 1000}, 5000, 0},
      row{{500, 1000}, 499, code::too_slow},
      row{{500, 1000}, 500, 0},
      row{{1, 1}, 1, 0},
      row{{0, 1000}, 29'999, code::too_slow},
      row{{0, 1000}, 30'000, 0},
      row{{86'400'000, 1ULL << 30U}, 1ULL << 40U, code::too_slow},
      row{{86'400'000, 1ULL << 30U}, 86'400ULL << 30U, 0},
  };
  for (const row& r : rows) {
    CAPTURE(r.limits.timeout_ms);
    CAPTURE(r.limits.rate_min_bytes);
    CAPTURE(r.bytes);
    CHECK(stall_watch(r.limits).verdict(r.bytes, false) == r.verdict);
    // While others wait for its block no rate is enough.
    CHECK(stall_watch(r.limits).verdict(r.bytes, true) ==
          (r.bytes == 0 ? ETIMEDOUT : code::too_slow));
  }
}

constexpr std::int64_t second_ns = 1'000'000'000;
const result<std::size_t> ready = 4;
const result<std::size_t> ran_out = fail(ETIMEDOUT, "poll");

TEST_CASE("operations are judged together, once per interval of the time they took") {
  op_pace p({5000, 100});
  p.begins(0);
  CHECK(p.ended(300, false, false, 3 * second_ns) == 0);
  p.begins(60 * second_ns);  // what was between them is ours
  CHECK(p.ended(200, false, false, 62 * second_ns) == 0);
  p.begins(62 * second_ns);
  p.waited(66 * second_ns);
  p.begins(66 * second_ns);
  CHECK(p.ended(499, false, false, 67 * second_ns) == code::too_slow);
}

TEST_CASE("an operation that runs out is silence, or too slow for those who wait, or goes on") {
  op_pace p({5000, 0});
  p.begins(0);
  CHECK(p.ended(1, true, false, 5 * second_ns) == 0);
  p.begins(0);
  CHECK(p.ended(1, true, true, 5 * second_ns) == code::too_slow);
  p.begins(0);
  CHECK(p.ended(0, true, false, 5 * second_ns) == ETIMEDOUT);
}

TEST_CASE("a send that moved nothing in an interval is tried once more before that is silence") {
  for (const std::uint64_t bytes : {0U, 1U}) {
    op_pace p({5000, 0}, op_pace::at_silence::try_once);
    p.begins(0);
    CHECK(p.ended(0, true, true, 5 * second_ns) == 0);
    CHECK(p.is_last_try());
    p.begins(5 * second_ns);
    CHECK(p.ended(bytes, false, false, 5 * second_ns) == (bytes == 0 ? ETIMEDOUT : 0));
    CHECK(!p.is_last_try());
  }
}

TEST_CASE("a wait that runs out is forgiven when the next try moves something") {
  pace p({5000, 0}, 0);
  CHECK(p.waited(ran_out) == 0);
  CHECK(p.tried(1, 5 * second_ns) == 0);
  CHECK(p.waited(ran_out) == 0);
  CHECK(p.tried(0, 10 * second_ns) == ETIMEDOUT);
}

TEST_CASE("a try that moves nothing after a wait in time is nothing to be judged") {
  pace p({5000, 0}, 0);
  CHECK(p.waited(ready) == 0);
  CHECK(p.tried(0, second_ns) == 0);
}

TEST_CASE("a wait that failed ends the transfer with its error") {
  pace p({5000, 0}, 0);
  CHECK(p.waited(fail(ECANCELED, "poll")) == ECANCELED);
}

TEST_CASE("many small steps are judged together, once per interval") {
  pace p({5000, 100}, 0);
  CHECK(p.tried(499, 4 * second_ns) == 0);
  CHECK(p.tried(1, 5 * second_ns) == 0);  // 500 bytes in five seconds
  CHECK(p.tried(499, 9 * second_ns) == 0);
  CHECK(p.tried(0, 10 * second_ns) == code::too_slow);
}

TEST_CASE("what the peer waited for us is no time of its own") {
  pace p({5000, 100}, 0);
  CHECK(p.tried(499, 4 * second_ns) == 0);
  p.kept_waiting(20 * second_ns);
  CHECK(p.tried(0, 25 * second_ns - 1) == 0);
  CHECK(p.tried(0, 25 * second_ns) == code::too_slow);
}

TEST_CASE("a pipe that others wait for must be empty within an interval") {
  const pace p({5000, 0}, 0);
  CHECK(p.lease_timeout() == 10s);
  CHECK(p.still_holding(second_ns, 6 * second_ns - 1, true) == 0);
  CHECK(p.still_holding(second_ns, 6 * second_ns, true) == code::too_slow);
  CHECK(p.still_holding(second_ns, 60 * second_ns, false) == 0);
}

TEST_CASE("without limits nothing is ever too slow") {
  pace p({0, 0}, 0);
  CHECK(p.interval() == 0s);
  CHECK(p.lease_timeout() == 0s);
  CHECK(p.still_holding(0, 1000 * second_ns, true) == 0);
  CHECK(p.tried(0, 1000 * second_ns) == 0);
}

}  // namespace
