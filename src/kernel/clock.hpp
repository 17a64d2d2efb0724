// The one clock of sluice: CLOCK_MONOTONIC in nanoseconds.
#pragma once

#include <cstdint>
#include <ctime>
#include <limits>

namespace sluice::kernel {

[[nodiscard]] inline std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The deadline `duration_ns` from now: now for one that has passed, the end of time for one beyond
// it.
[[nodiscard]] inline std::int64_t deadline_after(std::int64_t duration_ns) {
  const std::int64_t now = now_ns();
  if (duration_ns <= 0) return now;
  constexpr std::int64_t end_of_time = std::numeric_limits<std::int64_t>::max();
  return duration_ns > end_of_time - now ? end_of_time : now + duration_ns;
}

}  // namespace sluice::kernel
