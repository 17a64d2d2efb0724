// Bytes from one socket to another through a pipe, for as long as neither of them would wait: a
// step of the loop for each splice cost a relay of sixteen connections two fifths more CPU than
// these calls in a row (bench-results/improvements.md).
#pragma once

#include <cstdint>

#include "sluice/op.hpp"

namespace sluice {

struct pipe_run {
  enum class stop : std::uint8_t { not_begun, enough, at_source, at_sink };

  int from = -1;
  int to = -1;
  int pipe_in = -1;  // where the pipe is written
  int pipe_out = -1;
  std::uint64_t pipe_bytes = 0;
  std::uint64_t held = 0;    // in the pipe, before the run and after it
  std::uint64_t enough = 0;  // stops once it has moved so many and the pipe is empty
  bool goes_on = true;       // false: stops once the pipe is empty
  // How it went.
  std::uint64_t filled = 0;  // bytes, from the source
  std::uint64_t moved = 0;   // bytes, to the sink
  std::uint32_t calls = 0;
  std::uint32_t short_calls = 0;  // of them into the sink, which took a part
  stop stopped = stop::not_begun;
  int failure = 0;  // at_source, at_sink: errno of the last call; 0: it moved nothing
};

// Both sockets are non-blocking. By the loop's thread; `run` must live until it has ended, and says
// more than the result of the operation: bytes moved, or -EPIPE, which is how the loop learns of a
// SIGPIPE.
[[nodiscard]] op_request request_of(pipe_run& run);

}  // namespace sluice
