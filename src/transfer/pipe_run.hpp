// Bytes from a socket to another, or to a file, through a pipe, for as long as no socket would
// wait. A step of the loop for each splice costs a relay of sixteen connections two fifths more CPU
// (bench-results/improvements.md).
#pragma once

#include <cstdint>
#include <limits>

#include "sluice/op.hpp"

namespace sluice {

struct pipe_run {
  enum class stop : std::uint8_t { not_begun, enough, at_source, at_sink };

  int from = -1;
  int to = -1;
  std::uint64_t to_offset = op_no_offset;  // in a file, where the run begins
  int pipe_in = -1;                        // where the pipe is written
  int pipe_out = -1;
  std::uint64_t pipe_bytes = 0;
  std::uint64_t fill_max = std::numeric_limits<std::uint64_t>::max();  // bytes from the source
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

// Sockets are non-blocking; where a file may wait for its disk the route must be a worker's. `run`
// must live until the operation has ended, and says how it went; its own result is only for the
// loop: bytes moved, or -EPIPE where a SIGPIPE may have been raised.
[[nodiscard]] op_request request_of(pipe_run& run, op_route route);

}  // namespace sluice
