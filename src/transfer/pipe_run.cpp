#include "transfer/pipe_run.hpp"

#include <fcntl.h>

#include <cerrno>

#include "ops/table.hpp"

namespace sluice {
namespace {

// One call. What it moved; 0: nothing, and the run stops at that end.
std::uint64_t splice_once(pipe_run& run, int from, int to, std::uint64_t bytes,
                          pipe_run::stop there) {
  ++run.calls;
  const ssize_t got = ::splice(from, nullptr, to, nullptr, bytes, SPLICE_F_NONBLOCK);
  if (got > 0) return static_cast<std::uint64_t>(got);
  run.stopped = there;
  run.failure = got < 0 ? errno : 0;
  return 0;
}

// One that moved a part may have raised SIGPIPE, and the next says EPIPE then: so it never stops
// between the two.
bool empty_pipe(pipe_run& run) {
  while (run.held > 0) {
    const std::uint64_t put =
        splice_once(run, run.pipe_out, run.to, run.held, pipe_run::stop::at_sink);
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
    if (run.moved >= run.enough || (run.moved > 0 && !run.goes_on)) {
      run.stopped = pipe_run::stop::enough;
      break;
    }
    const std::uint64_t got =
        splice_once(run, run.from, run.pipe_in, run.pipe_bytes, pipe_run::stop::at_source);
    if (got == 0) break;
    run.filled += got;
    run.held = got;
  }
  return run.failure == EPIPE ? -EPIPE : static_cast<std::int64_t>(run.moved);
}

}  // namespace

op_request request_of(pipe_run& run) {
  op_request request = call_of(move_on, &run);
  request.route = op_route::loop_thread;
  return request;
}

}  // namespace sluice
