#include "pace.hpp"

#include <doctest/doctest.h>

namespace {

using namespace sluiced;
using namespace std::chrono_literals;

const pace::clock::time_point start{1h};

pace paced(std::chrono::milliseconds silence_max, std::uint64_t rate_min) {
  pace p(silence_max, rate_min);
  p.begin(start);
  return p;
}

}  // namespace

TEST_CASE("nothing is judged before the interval has run out") {
  pace p = paced(30s, 1024);
  CHECK(p.judge(start + 6s) == 0);
  CHECK(p.left(start + 6s) == 24s);
  p.add(29, 24);
  CHECK(p.judge(start + 29s) == 0);
}

TEST_CASE("an interval without a byte is silence, one with too few is slowness") {
  pace silent = paced(1s, 1024);
  CHECK(silent.judge(start + 1s) == ETIMEDOUT);
  pace slow = paced(1s, 1024);
  slow.add(1030, 1023);
  CHECK(slow.judge(start + 1s) == sluice::code::too_slow);
}

TEST_CASE("enough of the body begins the next interval, in which it counts no more") {
  pace p = paced(2s, 1000);
  p.add(2100, 2000);
  CHECK(p.judge(start + 2s) == 0);
  CHECK(p.left(start + 2s) == 2s);
  p.add(1, 1);
  CHECK(p.judge(start + 3s) == 0);
  CHECK(p.judge(start + 4s) == sluice::code::too_slow);
}

TEST_CASE("what is no body does not count for its rate") {
  pace p = paced(1s, 1000);
  p.add(6000, 999);  // chunk heads, the rest of it
  CHECK(p.judge(start + 1s) == sluice::code::too_slow);
}

TEST_CASE("time that was not the peer's is not counted") {
  pace p = paced(1s, 1000);
  p.begin(start + 10s);
  CHECK(p.judge(start + 10s + 999ms) == 0);
  CHECK(p.left(start + 10s + 999ms) == 1ms);
}

TEST_CASE("without a rate any byte will do; without both limits nothing is ever judged") {
  pace no_rate = paced(1s, 0);
  no_rate.add(1, 0);
  CHECK(no_rate.judge(start + 1s) == 0);
  CHECK(no_rate.judge(start + 2s) == ETIMEDOUT);
  pace none = paced(0ms, 0);
  CHECK(none.interval() == 0ms);
  CHECK(none.judge(start + 100h) == 0);
  CHECK(none.left(start + 100h) == 0s);
}

TEST_CASE("a rate without a longest silence is judged every 30 seconds") {
  pace p = paced(0ms, 1024);
  CHECK(p.interval() == 30s);
  CHECK(p.judge(start + 29s) == 0);
  CHECK(p.judge(start + 30s) == ETIMEDOUT);
}
