// When the peer of a body that comes in pieces is too silent or too slow: the rule that the library
// keeps for a body of known length (sluice.receive.timeout_ms, sluice.receive.rate_min_bytes).
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>

#include "sluice/result.hpp"

namespace sluiced {

// Looks at one interval after the other. One that has run out is judged by what it brought; before
// that a pause is nobody's business, however little has come. Its owner begins anew after time that
// was not the peer's: waiting for memory, or for the disk.
class pace {
 public:
  using clock = std::chrono::steady_clock;

  // Zero for either is no limit.
  pace(std::chrono::milliseconds silence_max, std::uint64_t bytes_per_second_min)
      : interval_(silence_max), rate_min_(bytes_per_second_min) {
    if (interval_.count() == 0 && rate_min_ != 0) interval_ = default_interval;
  }

  void begin(clock::time_point now) {
    began_ = now;
    arrived_ = body_ = 0;
  }
  // `arrived` bytes came, `body` of them belong to the body.
  void add(std::uint64_t arrived, std::uint64_t body) {
    arrived_ += arrived;
    body_ += body;
  }
  // 0: go on. ETIMEDOUT, code::too_slow: the interval ran out, and this is why the transfer fails.
  [[nodiscard]] int judge(clock::time_point now) {
    if (interval_.count() == 0 || now - began_ < interval_) return 0;
    if (arrived_ == 0) return ETIMEDOUT;
    const auto ms = static_cast<std::uint64_t>(interval_.count());
    if (body_ * 1000 < rate_min_ * ms) return sluice::code::too_slow;
    begin(now);
    return 0;
  }
  // How long the next receive may wait, after judge() said 0; zero: for ever.
  [[nodiscard]] clock::duration left(clock::time_point now) const {
    if (interval_.count() == 0) return clock::duration::zero();
    return interval_ - (now - began_);
  }
  // How long a peer may send nothing at all; zero: for ever.
  [[nodiscard]] std::chrono::milliseconds interval() const { return interval_; }

 private:
  static constexpr std::chrono::milliseconds default_interval = std::chrono::seconds(30);

  std::chrono::milliseconds interval_;
  std::uint64_t rate_min_;
  clock::time_point began_{};
  std::uint64_t arrived_ = 0;
  std::uint64_t body_ = 0;
};

}  // namespace sluiced
