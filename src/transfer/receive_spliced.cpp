// Socket to file through a pipe, past our memory: the kernel copies once, into the page cache.
// A round, and what may happen in it:
//   poll     until there is something; holds no pipe meanwhile
//   fill     socket to pipe, as much as is there and fits; the socket is non-blocking from here on,
//            so nothing waits here
//   empty    pipe to file, until nothing is left; may wait for the disk, so never on the loop,
//            unless the file has no disk
// A thread goes on with filling and emptying until the socket has nothing left (pipe_run.hpp); the
// ring takes them one by one. Worked example: 100,000 bytes are there, the pipe takes 65,536, the
// file takes 40,000 of them in the first call: `held` is 25,536, and the next call goes on at the
// file's offset + 40,000. When that one says ENOSPC, received has grown by exactly 40,000; the pipe
// goes back to the pool with 25,536 bytes in it and is closed there.
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "kernel/page_cache.hpp"
#include "kernel/socket.hpp"
#include "storage/page_dropper.hpp"
#include "transfer/op_count.hpp"
#include "transfer/pipe_run.hpp"
#include "transfer/receiving.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

op_request readable_request(const receiving& r) {
  op_request request;
  request.kind = op_kind::poll;
  request.fd = r.from.fd();
  request.flags = POLLIN | POLLRDHUP;
  return request;
}

// Then a cancel is looked at, and who else waits for the thread.
constexpr std::uint64_t run_bytes = std::uint64_t{1} << 20;

bool is_by_ring(const receiving& r) {
  return r.into.core.values().splice.via == tuning::splice_choice::ring;
}

op_route run_route(const receiving& r) {
  const bool by_loop = r.into.core.values().splice.via == tuning::splice_choice::loop;
  return by_loop && kernel::is_in_memory(r.into.fd.get()) ? op_route::loop_thread
                                                          : op_route::worker;
}

op_request fill_request(const receiving& r, const kernel::pipe& into) {
  op_request request;
  request.kind = op_kind::splice;
  request.fd = into.write_end();
  request.offset = op_no_offset;
  request.fd2 = r.from.fd();
  request.offset2 = op_no_offset;
  request.length = std::min<std::uint64_t>(into.bytes(), r.left());
  request.flags = SPLICE_F_NONBLOCK;
  request.accept_again = true;
  request.to_own_pipe = true;
  return request;
}

op_request empty_request(const receiving& r, const kernel::pipe& from, std::uint64_t held) {
  op_request request;
  request.kind = op_kind::splice;
  request.fd = r.into.fd.get();
  request.offset = r.next_offset();
  request.fd2 = from.read_end();
  request.offset2 = op_no_offset;
  request.length = held;
  return request;
}

void count_received(receiving& r, std::uint64_t bytes) {
  r.received += bytes;
  if (r.so_far.first_byte.count() == 0 && bytes > 0) r.so_far.first_byte = r.elapsed();
}

// What a try to fill the pipe came to; a socket with nothing in it gave nothing.
struct filled {
  std::uint64_t bytes = 0;
  int failure = 0;
};
filled outcome_of(receiving& r, const result<std::size_t>& got) {
  if (got && *got > 0) return {*got, 0};
  if (!got && got.error().code != EAGAIN) return {0, got.error().code};
  if (kernel::at_urgent_mark(r.from.fd())) {
    r.where = "splice cannot pass urgent data of the peer";
    return {0, code::path_unavailable};
  }
  if (!got) return {};
  return {0, end_of(r.from)};
}

pipe_run run_of(const receiving& r, const kernel::pipe& through) {
  return {.from = r.from.fd(),
          .to = r.into.fd.get(),
          .to_offset = r.next_offset(),
          .pipe_in = through.write_end(),
          .pipe_out = through.read_end(),
          .pipe_bytes = through.bytes(),
          .fill_max = r.left(),
          .enough = run_bytes,
          .goes_on = !r.into.core.pipes().wanted()};
}

// All of it was ours: neither end waits for the peer. One that was cancelled before it began has
// told nothing.
int outcome_of(receiving& r, const pipe_run& run, const result<std::size_t>& told, pace& peer) {
  if (run.stopped == pipe_run::stop::not_begun) return told.error().code;
  r.so_far.ops += run.calls;
  r.so_far.short_ops += run.short_calls;
  r.into.core.counters().ops.submitted.add(run.calls - 1);  // one is the loop's
  count_received(r, run.moved);
  if (r.dropper != nullptr && run.moved > 0) r.dropper->passed(r.next_offset());
  if (run.stopped == pipe_run::stop::at_sink) return run.failure != 0 ? run.failure : EIO;
  if (run.stopped == pipe_run::stop::at_source) {
    result<std::size_t> nothing = 0;
    if (run.failure != 0) nothing = fail(run.failure, "splice", "receive_to_file");
    const filled last = outcome_of(r, nothing);
    if (last.failure != 0) return last.failure;
  }
  return peer.tried(run.filled, kernel::now_ns());
}

// One coroutine frame for all rounds: nothing is allocated per round.
task<int> splice_rounds(receiving& r) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  pace peer({knobs.timeout_ms, knobs.rate_min_bytes}, kernel::now_ns());
  const bool by_ring = is_by_ring(r);
  const op_route route = run_route(r);
  while (r.left() > 0) {
    op_await polling(r.into.core.loop(), readable_request(r), peer.interval());
    const int waited = peer.waited(co_await polling);
    count_op(r.so_far, polling.awaited());
    if (waited != 0) co_return waited;
    std::int64_t ours_since_ns = kernel::now_ns();
    pipe_await taking = r.into.core.pipes().take(peer.lease_timeout());
    const result<pipe_lease> pipe = co_await taking;
    peer.kept_waiting(kernel::now_ns() - ours_since_ns);
    if (!pipe) co_return pipe.error().code == ETIMEDOUT ? ENOBUFS : pipe.error().code;
    if (!by_ring) {
      ours_since_ns = kernel::now_ns();
      pipe_run run = run_of(r, **pipe);
      op_await running(r.into.core.loop(), request_of(run, route));
      const result<std::size_t> ran = co_await running;
      peer.kept_waiting(kernel::now_ns() - ours_since_ns);
      if (run.calls == 0) count_op(r.so_far, running.awaited());  // a worker was told, and no more
      const int failure = outcome_of(r, run, ran, peer);
      if (failure != 0) co_return failure;
      continue;
    }
    const op_request wanted = fill_request(r, **pipe);
    op_await filling(r.into.core.loop(), wanted);
    const filled f = outcome_of(r, co_await filling);
    count_op(r.so_far, filling.awaited());
    if (f.failure != 0) co_return f.failure;
    ours_since_ns = kernel::now_ns();
    const int verdict = peer.tried(f.bytes, ours_since_ns);
    if (verdict != 0) co_return verdict;
    for (std::uint64_t held = f.bytes; held > 0;) {
      op_await emptying(r.into.core.loop(), empty_request(r, **pipe, held));
      const result<std::size_t> stored = co_await emptying;
      count_op(r.so_far, emptying.awaited());
      if (!stored) co_return stored.error().code;
      if (*stored == 0) co_return EIO;  // takes nothing and gives no reason
      if (*stored < held) ++r.so_far.short_ops;
      count_received(r, *stored);
      if (r.dropper != nullptr) r.dropper->passed(r.next_offset());
      held -= *stored;
    }
    peer.kept_waiting(kernel::now_ns() - ours_since_ns);
  }
  r.so_far.last_byte = r.elapsed();
  co_return 0;
}

// Of a first round: this kind of socket or file has no splice.
bool says_cannot(int failure) { return failure == EINVAL || failure == EOPNOTSUPP; }

}  // namespace

task<int> write_prefix(receiving& r) {
  if (r.options.prefix.empty()) co_return 0;
  op_request request = on_file(r.into, op_kind::write);
  request.data = const_cast<std::byte*>(r.options.prefix.data());
  request.length = r.options.prefix.size();
  request.offset = r.options.offset;
  op_await writing(r.into.core.loop(), request);
  const result<std::size_t> written = co_await writing;
  count_op(r.so_far, writing.awaited());
  count_received(r, writing.moved());
  r.so_far.misrouted_bytes += writing.moved();
  co_return written ? 0 : written.error().code;
}

task<int> receive_spliced(receiving& r) {
  const result<void> non_blocking =
      kernel::set_mode(r.from.fd(), kernel::socket_mode::non_blocking);
  if (!non_blocking) co_return non_blocking.error().code;
  int failure = co_await write_prefix(r);
  if (failure != 0) co_return failure;
  failure = co_await splice_rounds(r);
  const bool nothing_moved = r.received == r.options.prefix.size();
  if (!nothing_moved || !says_cannot(failure)) co_return failure;
  r.where = "splice refused by the filesystem or socket";
  co_return code::path_unavailable;
}

}  // namespace sluice
