#include "patience.hpp"

#include <doctest/doctest.h>

#include <functional>

using bt::patience;
using namespace std::chrono_literals;
using verdict = patience::verdict;

namespace {

constexpr std::uint64_t piece_bytes = 64 << 10;

// Looks twice a second, as `change` has it, until it is given up, or for an hour.
struct ending {
  verdict why = verdict::wait;
  std::chrono::milliseconds after{0};
};
ending wait_for_end(
    const std::function<void(patience::sight&, std::chrono::milliseconds)>& change) {
  patience::sight seen;
  const patience::clock::time_point begin{};
  patience left(10s, piece_bytes, seen, begin);
  for (std::chrono::milliseconds passed = 500ms; passed <= 1h; passed += 500ms) {
    change(seen, passed);
    const verdict said = left.look(seen, begin + passed);
    if (said != verdict::wait) return {said, passed};
  }
  return {};
}

}  // namespace

TEST_CASE("peers that send nothing are given up after the limit, whenever they fell silent") {
  for (const auto sent_for : {0s, 100s}) {
    const ending got = wait_for_end([&](patience::sight& seen, std::chrono::milliseconds at) {
      if (at > sent_for) return;
      ++seen.received_bytes;
      ++seen.blocks_here;
    });
    CHECK(got.why == verdict::nothing_comes);
    CHECK(got.after == sent_for + 10'500ms);
  }
}

TEST_CASE("a disk that takes nothing is waited for five times as long") {
  const ending got = wait_for_end(
      [](patience::sight& seen, std::chrono::milliseconds) { seen.waits_for_us = true; });
  CHECK(got.why == verdict::nothing_taken);
  CHECK(got.after == 50'500ms);
}

TEST_CASE(
    "what comes again and again and never stays is no progress; little of it is a slow line") {
  for (const bool much : {true, false}) {
    const ending got = wait_for_end([much](patience::sight& seen, std::chrono::milliseconds at) {
      if (much || at % 5s == 0ms) seen.received_bytes += 16 << 10;
      if (!much && at % 40s == 0ms) ++seen.blocks_here;
    });
    CHECK(got.why == (much ? verdict::nothing_stays : verdict::wait));
  }
}

TEST_CASE("a little every now and then is enough") {
  const ending got = wait_for_end([](patience::sight& seen, std::chrono::milliseconds at) {
    if (at % 9s == 0ms) ++seen.received_bytes;
  });
  CHECK(got.why == verdict::wait);
}

TEST_CASE("peers that send nothing are given up although we, too, keep them waiting now and then") {
  const ending got = wait_for_end([](patience::sight& seen, std::chrono::milliseconds at) {
    seen.waits_for_us = at % 4s < 2s;
  });
  CHECK(got.why == verdict::nothing_comes);
  CHECK(got.after < 30s);
}

TEST_CASE("a disk that takes nothing is given up although peers, too, pause now and then") {
  const ending got = wait_for_end([](patience::sight& seen, std::chrono::milliseconds at) {
    seen.waits_for_us = at % 20s != 0s;
  });
  CHECK(got.why == verdict::nothing_taken);
  CHECK(got.after < 60s);
}
