// One combination of size and connections: all ways side by side on the same work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exchange.hpp"
#include "outcome.hpp"
#include "pattern.hpp"
#include "setup.hpp"

namespace bench {

struct combination {
  std::uint64_t object_bytes = 0;
  unsigned connections = 1;
  std::uint64_t objects = 1;           // in one run, of ways that sync
  std::uint64_t objects_unsynced = 1;  // of ways that do not: they need more to be measurable
  bool sample = false;                 // every way is measured here: everywhere, that takes hours
};

struct contest_order {
  direction towards = direction::upload;
  std::string mode;  // receive, durable or send
  std::vector<way> ways;
  combination size;
  bool count_pass = true;
};

// Starts a server for every way, then: one warm-up each, the timed runs in the order A B B A, and a
// pass that counts system calls, worker hand-offs and copies. Every byte is verified after each
// run. A way that cannot run is a row with the reason.
[[nodiscard]] std::vector<row> hold_contest(const setup& on, const pattern& payload,
                                            const contest_order& wanted);

// The same way twice: the larger median over the smaller is what a difference must exceed.
[[nodiscard]] noise measure_noise(const setup& on, const pattern& payload,
                                  const contest_order& wanted);

}  // namespace bench
