// The knobs that the server itself reads, as plain values.
#pragma once

#include <chrono>
#include <cstdint>

#include "sluice/file.hpp"
#include "sluice/knobs.hpp"

namespace sluiced {

struct settings {
  std::uint64_t body_bytes_max = 0;
  std::uint64_t connections_max = 0;
  std::uint64_t head_bytes_max = 0;
  std::uint64_t rate_min_bytes = 0;  // per second; 0 is no limit
  std::chrono::milliseconds head_timeout{};
  std::chrono::milliseconds idle_timeout{};
  std::chrono::milliseconds grace{};
  std::chrono::milliseconds receive_timeout{};  // 0 is no limit
  int backlog = 0;
  sluice::make_parents create_parents = sluice::make_parents::yes;
  sluice::durability durability = sluice::durability::durable;
  bool preallocate = true;
};

[[nodiscard]] settings settings_from(const sluice::knobs& knobs);

// How many connections `descriptors` (RLIMIT_NOFILE) are enough for: a connection needs one, and as
// much again for the files of its request; the server itself needs some.
[[nodiscard]] std::uint64_t connections_within(std::uint64_t descriptors);

}  // namespace sluiced
