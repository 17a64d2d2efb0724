// What the next frames of a stream will look like, and how they are best received: by what was seen
// so far. Pure: no I/O, no memory but a few numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/frames.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

class frame_predictor {
 public:
  // `forced` overrides the knob unless it is automatic. `block_bytes`: a longer payload cannot be
  // scattered.
  frame_predictor(const tuning::frames_knobs& knobs, frame_mode forced, std::size_t block_bytes);

  void saw_view();
  void saw_block(std::uint32_t head_bytes, std::uint64_t payload_bytes);
  // How a scatter receive went: whether payloads had to be moved.
  void scattered(bool mispredicted);

  // Receives stay with the kernel; mode() is for those made by hand.
  [[nodiscard]] bool multishot() const { return wanted_ == frame_mode::multishot; }
  // For the next receive; never automatic. scatter only with a prediction.
  [[nodiscard]] frame_mode mode() const;
  // The predicted frame: the last one that had a payload in a block.
  [[nodiscard]] std::uint32_t head_bytes() const { return head_bytes_; }
  [[nodiscard]] std::uint64_t payload_bytes() const { return payload_bytes_; }
  // Whether payloads for blocks are coming: large buffers pay.
  [[nodiscard]] bool bulk() const { return payload_bytes_ != 0 && views_ < views_max; }
  [[nodiscard]] std::uint64_t fallbacks() const { return fallbacks_; }

 private:
  // Small messages in a row after which a stream counts as one of small messages.
  static constexpr std::uint32_t views_max = 64;
  // Equal frames in a row that make a prediction.
  static constexpr std::uint32_t run_min = 2;
  // Payloads from here on are received with a call of their own rather than copied.
  static constexpr std::uint64_t large_bytes = 64 << 10;

  tuning::frames_knobs knobs_;
  frame_mode wanted_;
  std::size_t block_bytes_;
  std::uint32_t head_bytes_ = 0;
  std::uint64_t payload_bytes_ = 0;
  std::uint32_t run_ = 0;      // equal block frames in a row, views between them apart
  std::uint32_t views_ = 0;    // in a row
  std::uint32_t misses_ = 0;   // mispredicted receives in a row
  std::uint32_t resting_ = 0;  // block frames until predictions are tried again
  bool predicting_ = false;
  std::uint64_t fallbacks_ = 0;
};

}  // namespace sluice
