#include "transfer/frame_predictor.hpp"

#include <doctest/doctest.h>

namespace {

using sluice::frame_mode;
using sluice::frame_predictor;

constexpr std::size_t block_bytes = 512 << 10;

frame_predictor automatic(sluice::tuning::frames_knobs knobs = {}) {
  return {knobs, frame_mode::automatic, block_bytes};
}

}  // namespace

TEST_CASE("a stream begins contiguously, and two equal payloads make a prediction") {
  frame_predictor p = automatic();
  CHECK(p.mode() == frame_mode::contiguous);
  CHECK_FALSE(p.bulk());
  p.saw_block(13, 16'384);
  CHECK(p.mode() == frame_mode::contiguous);
  CHECK(p.bulk());
  p.saw_view();  // a message between does not matter
  p.saw_block(13, 16'384);
  CHECK(p.mode() == frame_mode::scatter);
  CHECK(p.head_bytes() == 13);
  CHECK(p.payload_bytes() == 16'384);
}

TEST_CASE("payloads too short to be worth it stay contiguous, large unequal ones get calls") {
  frame_predictor p = automatic();
  for (int i = 0; i < 5; ++i) p.saw_block(13, 4095);
  CHECK(p.mode() == frame_mode::contiguous);
  p.saw_block(13, 70'000);
  CHECK(p.mode() == frame_mode::two_step);
  p.saw_block(13, block_bytes + 1);
  p.saw_block(13, block_bytes + 1);
  CHECK(p.mode() == frame_mode::two_step);
}

TEST_CASE("a stream that turns to small messages is received contiguously, without blocks") {
  frame_predictor p = automatic();
  p.saw_block(13, 16'384);
  p.saw_block(13, 16'384);
  for (int i = 0; i < 63; ++i) p.saw_view();
  CHECK(p.mode() == frame_mode::scatter);
  CHECK(p.bulk());
  p.saw_view();
  CHECK(p.mode() == frame_mode::contiguous);
  CHECK_FALSE(p.bulk());
}

TEST_CASE("misses in a row end predictions for a while, a hit forgives them") {
  frame_predictor p = automatic({.misses_max = 3, .retry_frames = 5});
  p.saw_block(13, 16'384);
  p.saw_block(13, 16'384);
  p.scattered(true);
  p.scattered(true);
  p.scattered(false);
  p.scattered(true);
  p.scattered(true);
  CHECK(p.mode() == frame_mode::scatter);
  p.scattered(true);
  CHECK(p.mode() == frame_mode::contiguous);
  CHECK(p.fallbacks() == 1);
  for (int i = 0; i < 4; ++i) p.saw_block(13, 16'384);
  CHECK(p.mode() == frame_mode::contiguous);
  p.saw_block(13, 16'384);
  CHECK(p.mode() == frame_mode::scatter);
}

TEST_CASE("a forced mode is kept, whatever comes") {
  for (const frame_mode forced : {frame_mode::contiguous, frame_mode::two_step}) {
    frame_predictor p({}, forced, block_bytes);
    CHECK(p.mode() == forced);
    for (int i = 0; i < 3; ++i) p.saw_block(13, 16'384);
    CHECK(p.mode() == forced);
  }
  frame_predictor p({.misses_max = 1}, frame_mode::scatter, block_bytes);
  CHECK(p.mode() == frame_mode::two_step);  // nothing to predict from yet
  p.saw_block(13, 100);
  for (int i = 0; i < 10; ++i) p.scattered(true);
  CHECK(p.mode() == frame_mode::scatter);
  CHECK(p.fallbacks() == 0);
}

TEST_CASE("the knob forces a mode, and what the user asks for goes before it") {
  const sluice::tuning::frames_knobs knobs{.mode = sluice::tuning::frames_choice::two_step};
  CHECK(frame_predictor(knobs, frame_mode::automatic, block_bytes).mode() == frame_mode::two_step);
  CHECK(frame_predictor(knobs, frame_mode::contiguous, block_bytes).mode() ==
        frame_mode::contiguous);
}
