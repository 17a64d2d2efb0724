// Socket to file through a pipe, past our memory: the kernel copies once, into the page cache.
// A round, and what may happen in it:
//   poll     until there is something; holds no pipe meanwhile
//   fill     socket to pipe, as much as is there and fits; the socket is non-blocking from here on,
//            so nothing waits here
//   empty    pipe to file, until nothing is left; may wait for the disk, so never on the loop
// Worked example: 100,000 bytes are there, the pipe takes 65,536, the file takes 40,000 of them in
// the first call: `held` is 25,536, and the next call goes on at the file's offset + 40,000. When
// that one says ENOSPC, received has grown by exactly 40,000; the pipe goes back to the pool with
// 25,536 bytes in it and is closed there.
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "kernel/socket.hpp"
#include "storage/page_dropper.hpp"
#include "transfer/op_count.hpp"
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

// `waits`: whether the call may wait for a disk, and so must not be made by the loop.
enum class waits : std::uint8_t { never, for_disk };
op_route route_of(const receiving& r, waits may) {
  switch (r.into.core.values().splice.via) {
    case tuning::splice_choice::ring: return op_route::automatic;
    case tuning::splice_choice::pool: return op_route::worker;
    default: return may == waits::never ? op_route::loop_thread : op_route::worker;
  }
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
  request.route = route_of(r, waits::never);
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
  request.route = route_of(r, waits::for_disk);
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

// One coroutine frame for all rounds: nothing is allocated per round.
task<int> splice_rounds(receiving& r) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  pace peer({knobs.timeout_ms, knobs.rate_min_bytes}, kernel::now_ns());
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
