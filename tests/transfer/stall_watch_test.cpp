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

}  // namespace
