// When a download is given up that does not get on.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

namespace bt {

// Time without anything that comes is the peers', or ours while they are kept waiting, and counts
// against either until something comes: neither can hide behind the other. Given up is when nothing
// comes; or when our disk and our memory take nothing, which is no fault of the peers and is
// waited for longer; or much comes and nothing that stays: what peers send again and again because
// it is wrong, or because they always go before a piece is whole, is no progress.
class patience {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr unsigned times_longer = 5;              // than the limit, where it says so
  static constexpr std::uint64_t pieces_in_vain_max = 16;  // received meanwhile

  struct sight {
    std::uint64_t received_bytes = 0;
    std::uint64_t blocks_here = 0;  // that were not found wrong
    bool waits_for_us = false;
  };
  enum class verdict : std::uint8_t {
    wait,
    nothing_comes,  // for the limit
    nothing_taken,  // by us, for times_longer as long
    nothing_stays,  // for times_longer as long
  };

  patience(std::chrono::seconds limit, std::uint64_t piece_bytes, const sight& first,
           clock::time_point now)
      : limit_(limit),
        in_vain_bytes_max_(pieces_in_vain_max * piece_bytes),
        received_(first.received_bytes),
        received_then_(first.received_bytes),
        most_(first.blocks_here),
        looked_(now),
        stayed_(now) {}

  // To be called now and then.
  [[nodiscard]] verdict look(const sight& seen, clock::time_point now) {
    something_came_ = std::exchange(received_, seen.received_bytes) != seen.received_bytes;
    const clock::duration passed = now - std::exchange(looked_, now);
    if (something_came_) {
      theirs_ = ours_ = {};
    } else {
      (seen.waits_for_us ? ours_ : theirs_) += passed;
    }
    if (seen.blocks_here > most_) {
      most_ = seen.blocks_here;
      stayed_ = now;
      received_then_ = received_;
    }
    // Little in all that time is a slow line that makes good what was lost.
    const bool much = received_ - received_then_ > in_vain_bytes_max_;
    if (much && now - stayed_ > times_longer * limit_) return verdict::nothing_stays;
    if (ours_ > times_longer * limit_) return verdict::nothing_taken;
    if (theirs_ > limit_) return verdict::nothing_comes;
    return verdict::wait;
  }
  // Between the last two looks.
  [[nodiscard]] bool something_came() const { return something_came_; }

 private:
  const std::chrono::seconds limit_;
  const std::uint64_t in_vain_bytes_max_;
  std::uint64_t received_;
  std::uint64_t received_then_;  // when something stayed last
  std::uint64_t most_;           // blocks
  clock::time_point looked_;
  clock::time_point stayed_;
  clock::duration theirs_{};  // since something came last
  clock::duration ours_{};
  bool something_came_ = false;
};

}  // namespace bt
