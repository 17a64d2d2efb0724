// How many blocks to have asked a peer for at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "layout.hpp"

namespace bt {

// Twice what arrives within the shortest answer seen, and a little time for its disk: more adds
// only to the peer's queue. Doubles with every round trip while that raises the rate. An answer
// waits for those asked before it, so that what replaces the shortest one after a while is mostly
// our own queue; that must not grow beyond what the peer sends in queue_max.
class request_pace {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr std::size_t depth_min = 16;   // what every peer bears
  static constexpr std::size_t depth_max = 500;  // what the common ones accept
  static constexpr std::chrono::milliseconds window{100};
  static constexpr std::chrono::milliseconds slack{50};
  static constexpr std::chrono::seconds memory{10};  // of the shortest answer
  static constexpr std::chrono::seconds queue_max{3};

  explicit request_pace(clock::time_point now) : window_begin_(now), shortest_since_(now) {}

  // A block has come, `waited` after it was asked for.
  void arrived(std::uint64_t bytes, clock::duration waited, clock::time_point now) {
    if (waited < shortest_ || now - shortest_since_ > memory) {
      shortest_ = waited;
      shortest_since_ = now;
    }
    window_bytes_ += bytes;
    if (!measured_) ++first_depth_;
    const clock::duration passed = now - window_begin_;
    if (passed < window) return;
    rate_ = static_cast<double>(window_bytes_) / seconds(passed);
    measured_ = true;
    window_bytes_ = 0;
    window_begin_ = now;
  }

  [[nodiscard]] std::size_t depth() const {
    if (!measured_) return std::min(first_depth_, depth_max);
    const double ahead = std::min(2 * seconds(shortest_) + seconds(slack), seconds(queue_max));
    const double bytes = rate_ * ahead;
    const double blocks = std::min(bytes / block_bytes, static_cast<double>(depth_max));
    return std::max(static_cast<std::size_t>(blocks), depth_min);
  }
  [[nodiscard]] double bytes_per_second() const { return rate_; }

 private:
  static double seconds(clock::duration d) { return std::chrono::duration<double>(d).count(); }
  clock::time_point window_begin_;
  std::uint64_t window_bytes_ = 0;
  clock::duration shortest_ = std::chrono::seconds(1);
  clock::time_point shortest_since_;
  double rate_ = 0;
  bool measured_ = false;
  std::size_t first_depth_ = depth_min;
};

}  // namespace bt
