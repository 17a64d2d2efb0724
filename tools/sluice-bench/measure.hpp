// The clock, the CPU and the counters around one run of a server.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "figures.hpp"
#include "server.hpp"

namespace bench {

inline constexpr double bytes_per_mib = 1024.0 * 1024.0;
inline constexpr double bytes_per_gib = bytes_per_mib * 1024.0;

// Made before the timed window, asked after it.
class measurement {
 public:
  explicit measurement(const server& of);

  // `seconds` is the timed window; CPU and counters run on until what the server does behind its
  // last answer (closing, freeing) is over, so that nobody hides work there.
  [[nodiscard]] figures finish(double seconds, std::uint64_t requests, std::uint64_t bytes);

 private:
  const server* of_;
  std::optional<double> process_cpu_;
  std::optional<double> machine_cpu_;
  std::map<std::string, std::optional<double>> counted_;
};

}  // namespace bench
