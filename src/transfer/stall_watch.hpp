// When a peer is too silent or too slow. Silence is judged by the operation, and a minimum rate by
// the interval, over however many operations it took: an operation that runs out with enough
// progress is simply continued.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "sluice/result.hpp"

namespace sluice {

struct stall_limits {
  std::uint32_t timeout_ms = 0;      // longest silence, 0: no limit
  std::uint64_t rate_min_bytes = 0;  // per second over an interval, 0: no limit
};

class stall_watch {
 public:
  explicit stall_watch(const stall_limits& limits) : limits_(limits) {}

  // The timeout for the next op; zero: none.
  [[nodiscard]] std::chrono::nanoseconds interval() const {
    if (limits_.timeout_ms != 0) return std::chrono::milliseconds(limits_.timeout_ms);
    if (limits_.rate_min_bytes != 0) return default_interval;
    return {};
  }
  // The longest wait for a block or a pipe of a pool; zero: none. In two intervals every holder
  // that is too slow for those who wait has been found so.
  [[nodiscard]] std::chrono::nanoseconds lease_timeout() const {
    return 2 * std::chrono::milliseconds(limits_.timeout_ms);
  }
  // What an interval that moved `bytes` means: 0 go on, ETIMEDOUT or code::too_slow.
  // `block_wanted`: others wait for the block that the peer has not filled, or emptied, in all that
  // time.
  [[nodiscard]] int verdict(std::uint64_t bytes, bool block_wanted) const {
    if (bytes == 0) return ETIMEDOUT;
    const auto ms = static_cast<std::uint64_t>(interval() / std::chrono::milliseconds(1));
    return block_wanted || bytes * 1000 < limits_.rate_min_bytes * ms ? code::too_slow : 0;
  }

 private:
  static constexpr std::chrono::nanoseconds default_interval = std::chrono::seconds(30);
  stall_limits limits_;
};

// For transfers whose operations wait for the peer themselves, one after the other: adds up what
// they moved and how long they took. Time between them is ours, and not the peer's. Worked example:
// an interval of 30 s and blocks of 256 KiB, each of which takes the peer 2 s: judged are 15 blocks
// at a time.
//
// A send that moved nothing in an interval is tried once more without waiting before that is called
// silence: a full TCP socket says that it is writable once a third of its send buffer is free, and
// a slow peer may need several intervals for that.
class op_pace {
 public:
  enum class at_silence : std::uint8_t { end, try_once };
  explicit op_pace(const stall_limits& limits, at_silence then = at_silence::end)
      : watch_(limits), at_silence_(then) {}

  // Whether the next operation is the one that must not wait.
  [[nodiscard]] bool is_last_try() const { return last_try_; }
  // The timeout for the next operation; zero: none.
  [[nodiscard]] std::chrono::nanoseconds interval() const { return watch_.interval(); }
  [[nodiscard]] std::chrono::nanoseconds lease_timeout() const { return watch_.lease_timeout(); }
  void begins(std::int64_t now_ns) { begun_ns_ = now_ns; }
  // A wait for the peer that moves nothing by itself has ended in time.
  void waited(std::int64_t now_ns) { spent_ns_ += now_ns - begun_ns_; }
  // An operation has ended that moved `bytes`, and more is to come: 0 go on, ETIMEDOUT or
  // code::too_slow. `ran_out`: its time did. `block_wanted`: others wait for the block that the
  // peer has not filled, or emptied, in all that time.
  [[nodiscard]] int ended(std::uint64_t bytes, bool ran_out, bool block_wanted,
                          std::int64_t now_ns) {
    waited(now_ns);
    bytes_ += bytes;
    if (ran_out && bytes == 0 && at_silence_ == at_silence::try_once) {
      last_try_ = true;
      return 0;
    }
    ran_out = std::exchange(last_try_, false) || ran_out;
    if (ran_out && (bytes == 0 || block_wanted)) return watch_.verdict(bytes, block_wanted);
    const bool is_over = interval().count() != 0 && spent_ns_ >= interval().count();
    if (!ran_out && !is_over) return 0;
    spent_ns_ = 0;
    return watch_.verdict(std::exchange(bytes_, 0), false);
  }

 private:
  const stall_watch watch_;
  const at_silence at_silence_;
  bool last_try_ = false;
  std::int64_t begun_ns_ = 0;  // of the operation
  std::int64_t spent_ns_ = 0;  // of the interval, by operations
  std::uint64_t bytes_ = 0;    // moved in it
};

// The same for transfers that wait for a descriptor and then try, in steps too small to be timed
// one by one: a wait that runs out may still find something to move.
class pace {
 public:
  pace(const stall_limits& limits, std::int64_t now_ns) : watch_(limits), begun_ns_(now_ns) {}

  // The timeout for the next wait; zero: none.
  [[nodiscard]] std::chrono::nanoseconds interval() const { return watch_.interval(); }
  [[nodiscard]] std::chrono::nanoseconds lease_timeout() const { return watch_.lease_timeout(); }
  // What it means that a pipe filled at `filled_ns` is not empty yet: 0 go on, or code::too_slow.
  // `wanted`: others wait for a pipe.
  [[nodiscard]] int still_holding(std::int64_t filled_ns, std::int64_t now_ns, bool wanted) const {
    const bool long_held = interval().count() != 0 && now_ns - filled_ns >= interval().count();
    return long_held && wanted ? code::too_slow : 0;
  }
  [[nodiscard]] std::int64_t interval_end_ns() const { return begun_ns_ + interval().count(); }
  // For so long the peer had to wait for us, for a pipe or the disk: not held against it.
  void kept_waiting(std::int64_t ns) { begun_ns_ += ns; }
  // After a wait for the peer: 0 try again, else why the transfer ends.
  int waited(const result<std::size_t>& ready) {
    late_ = !ready && ready.error().code == ETIMEDOUT;
    return ready || late_ ? 0 : ready.error().code;
  }
  // After a try that moved `bytes`: the same.
  int tried(std::uint64_t bytes, std::int64_t now_ns) {
    if (std::exchange(late_, false) && bytes == 0) return ETIMEDOUT;
    bytes_ += bytes;
    if (interval().count() == 0 || now_ns - begun_ns_ < interval().count()) return 0;
    begun_ns_ = now_ns;
    return watch_.verdict(std::exchange(bytes_, 0), false);  // a pipe held: still_holding
  }

 private:
  const stall_watch watch_;
  std::int64_t begun_ns_;    // of the interval
  std::uint64_t bytes_ = 0;  // moved in it
  bool late_ = false;        // the last wait ran out
};

}  // namespace sluice
