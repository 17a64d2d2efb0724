#include "transfer/pipe_run.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "ops/table.hpp"

namespace sluice {
namespace {

// As the loop has it for a splice of its own: a handler's signal is no reason to end.
constexpr int interruptions_max = 64;

ssize_t splice(int from, int to, off64_t* to_offset, std::uint64_t bytes) {
  ssize_t got = -1;
  for (int tries = 0; tries < interruptions_max; ++tries) {
    got = ::splice(from, nullptr, to, to_offset, bytes, SPLICE_F_NONBLOCK);
    if (got >= 0 || errno != EINTR) break;
  }
  return got;
}

// One call. What it moved; 0: nothing, and the run stops at that end.
std::uint64_t splice_once(pipe_run& run, int from, int to, off64_t* to_offset, std::uint64_t bytes,
                          pipe_run::stop there) {
  ++run.calls;
  const ssize_t got = splice(from, to, to_offset, bytes);
  if (got > 0) return static_cast<std::uint64_t>(got);
  run.stopped = there;
  run.failure = got < 0 ? errno : 0;
  return 0;
}

// Stops only with an empty pipe, or where the sink takes nothing more.
bool empty_pipe(pipe_run& run) {
  while (run.held > 0) {
    auto offset = static_cast<off64_t>(run.to_offset + run.moved);
    off64_t* const at = run.to_offset == op_no_offset ? nullptr : &offset;
    const std::uint64_t put =
        splice_once(run, run.pipe_out, run.to, at, run.held, pipe_run::stop::at_sink);
    if (put == 0) return false;
    run.held -= put;
    run.moved += put;
    if (run.held > 0) ++run.short_calls;
  }
  return true;
}

std::int64_t move_on(void* context) {
  auto& run = *static_cast<pipe_run*>(context);
  while (empty_pipe(run)) {
    const bool is_full = run.filled >= run.fill_max;
    if (run.moved >= run.enough || is_full || (run.moved > 0 && !run.goes_on)) {
      run.stopped = pipe_run::stop::enough;
      break;
    }
    const std::uint64_t wanted = std::min(run.pipe_bytes, run.fill_max - run.filled);
    const std::uint64_t got =
        splice_once(run, run.from, run.pipe_in, nullptr, wanted, pipe_run::stop::at_source);
    if (got == 0) break;
    run.filled += got;
    run.held = got;
  }
  // A splice into a socket is several sends: one that moved a part may have raised SIGPIPE too, and
  // the next may say ECONNRESET.
  const bool sink_failed =
      run.stopped == pipe_run::stop::at_sink && run.failure != 0 && run.failure != EAGAIN;
  if (sink_failed || run.short_calls > 0) return -EPIPE;
  return static_cast<std::int64_t>(run.moved);
}

}  // namespace

op_request request_of(pipe_run& run, op_route route) {
  op_request request = call_of(move_on, &run);
  request.route = route;
  return request;
}

}  // namespace sluice
