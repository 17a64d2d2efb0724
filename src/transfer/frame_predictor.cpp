#include "transfer/frame_predictor.hpp"

#include <algorithm>

namespace sluice {
namespace {

frame_mode mode_of(tuning::frames_choice choice) {
  switch (choice) {
    case tuning::frames_choice::scatter: return frame_mode::scatter;
    case tuning::frames_choice::contiguous: return frame_mode::contiguous;
    case tuning::frames_choice::two_step: return frame_mode::two_step;
    case tuning::frames_choice::multishot: return frame_mode::multishot;
    case tuning::frames_choice::automatic: break;
  }
  return frame_mode::automatic;
}

}  // namespace

frame_predictor::frame_predictor(const tuning::frames_knobs& knobs, frame_mode forced,
                                 std::size_t block_bytes)
    : knobs_(knobs),
      wanted_(forced == frame_mode::automatic ? mode_of(knobs.mode) : forced),
      block_bytes_(block_bytes) {}

void frame_predictor::saw_view() {
  views_ = std::min(views_ + 1, views_max);
  if (views_ == views_max) predicting_ = false;
}

void frame_predictor::saw_block(std::uint32_t head_bytes, std::uint64_t payload_bytes) {
  const bool equal = head_bytes == head_bytes_ && payload_bytes == payload_bytes_;
  run_ = equal ? std::min(run_ + 1, run_min) : 1;
  head_bytes_ = head_bytes;
  payload_bytes_ = payload_bytes;
  views_ = 0;
  if (resting_ > 0) --resting_;
  const bool worth_it = payload_bytes >= knobs_.scatter_min_bytes && payload_bytes <= block_bytes_;
  if (run_ == run_min && worth_it && resting_ == 0) predicting_ = true;
  if (!worth_it && run_ == run_min) predicting_ = false;
}

void frame_predictor::scattered(bool mispredicted) {
  misses_ = mispredicted ? misses_ + 1 : 0;
  if (misses_ < knobs_.misses_max || wanted_ != frame_mode::automatic) return;
  misses_ = 0;
  run_ = 0;
  resting_ = knobs_.retry_frames;
  predicting_ = false;
  ++fallbacks_;
}

frame_mode frame_predictor::mode() const {
  if (wanted_ == frame_mode::automatic) {
    if (predicting_ && payload_bytes_ <= block_bytes_) return frame_mode::scatter;
    return bulk() && payload_bytes_ >= large_bytes ? frame_mode::two_step : frame_mode::contiguous;
  }
  if (multishot()) return frame_mode::contiguous;
  // Nothing seen yet: nothing to predict.
  if (wanted_ == frame_mode::scatter && payload_bytes_ == 0) return frame_mode::two_step;
  return wanted_;
}

}  // namespace sluice
