#include "pace.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>

using bt::request_pace;
using namespace std::chrono_literals;

namespace {

// A peer that sends `rate` bytes per second, each answer `delay` after it was asked for.
std::size_t depth_after(double rate, request_pace::clock::duration delay,
                        request_pace::clock::duration how_long) {
  const request_pace::clock::time_point begin{};
  request_pace pace(begin);
  const auto gap = std::chrono::duration_cast<request_pace::clock::duration>(
      std::chrono::duration<double>(bt::block_bytes / rate));
  for (auto at = begin; at < begin + how_long; at += gap) pace.arrived(bt::block_bytes, delay, at);
  return pace.depth();
}

// As above, but what was asked for waits for what was asked for before it.
std::size_t depth_after_queueing(double rate, request_pace::clock::duration delay,
                                 request_pace::clock::duration how_long) {
  const request_pace::clock::time_point begin{};
  request_pace pace(begin);
  const auto gap = std::chrono::duration_cast<request_pace::clock::duration>(
      std::chrono::duration<double>(bt::block_bytes / rate));
  std::deque<request_pace::clock::time_point> asked(pace.depth(), begin);
  for (auto at = begin + delay; at < begin + how_long; at += gap) {
    at = std::max(at, asked.front() + delay);
    pace.arrived(bt::block_bytes, at - asked.front(), at);
    asked.pop_front();
    while (asked.size() < pace.depth()) asked.push_back(at);
  }
  return pace.depth();
}

}  // namespace

TEST_CASE("it begins with what every peer bears and grows with each answer") {
  const request_pace::clock::time_point now{};
  request_pace pace(now);
  CHECK(pace.depth() == request_pace::depth_min);
  for (int i = 0; i < 10; ++i) pace.arrived(bt::block_bytes, 1ms, now);
  CHECK(pace.depth() == request_pace::depth_min + 10);
}

TEST_CASE("it settles at the rate times twice the round trip and the slack") {
  // 16 MiB/s and 100 ms: 2 * 1.6 MiB and 0.8 MiB for the slack are 256 blocks.
  const std::size_t depth = depth_after(16.0 * (1 << 20), 100ms, 2s);
  CHECK(depth > 240);
  CHECK(depth < 270);
}

TEST_CASE("it stays within its bounds") {
  CHECK(depth_after(1000.0 * (1 << 20), 100ms, 1s) == request_pace::depth_max);
  CHECK(depth_after(64.0 * 1024, 1ms, 10s) == request_pace::depth_min);
}

TEST_CASE("its own queue is no reason to ask for more") {
  constexpr double mib = 1 << 20;
  // Three seconds of 1 MiB/s are 192 blocks, of 64 KiB/s less than what every peer bears.
  CHECK(depth_after_queueing(mib, 20ms, 2min) <= 192);
  CHECK(depth_after_queueing(mib / 16, 20ms, 2min) == request_pace::depth_min);
  // Where the peer is far away and fast the line stays full: 32 MiB/s and 200 ms are 410 blocks.
  CHECK(depth_after_queueing(32 * mib, 200ms, 1min) > 410);
}

TEST_CASE("it falls again when the peer becomes slow") {
  request_pace::clock::time_point now{};
  request_pace pace(now);
  for (int i = 0; i < 2000; ++i) pace.arrived(bt::block_bytes, 10ms, now += 100us);
  const std::size_t fast = pace.depth();
  for (int i = 0; i < 20; ++i) pace.arrived(bt::block_bytes, 10ms, now += 50ms);
  CHECK(pace.depth() < fast / 4);
}
