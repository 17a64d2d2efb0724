// What a transfer shows of itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "session.hpp"

namespace bt {

// CPU seconds of this process so far, all threads, user and system.
[[nodiscard]] double cpu_seconds();

// Figures of one transfer, from its begin.
class progress {
 public:
  void begin(const session_stats& now);
  // For a terminal, to be shown over the one before.
  [[nodiscard]] std::string line(const session& of);
  // "got NAME: 1048576 bytes in 0.010 s, 100.0 MiB/s, 0.512 CPU s/GiB"
  [[nodiscard]] std::string last_line(const session& of, const std::string& name, bool fetch) const;

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point begun_ = clock::now();
  double cpu_begun_ = cpu_seconds();
  clock::time_point shown_ = begun_;
  std::uint64_t shown_bytes_ = 0;
};

}  // namespace bt
