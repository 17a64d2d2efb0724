// File to socket without a copy: the socket is given the pages of the cache. Two ways to say it:
//   sendfile(2)   one call, through a pipe that the kernel keeps for the thread. The loop makes it
//                 itself while the pages are in the cache, for it then waits for nothing; what has
//                 to come from the disk first is left to a worker thread.
//   the ring      IORING_OP_SPLICE into a pooled pipe and out of it: each a call that the kernel
//                 hands to a thread of its own, so never the default (kernel-notes/splice_via.md).
// The head goes first, held back by MSG_MORE until pages join it. The socket is non-blocking from
// the first splice on: a full one says EAGAIN, and is then polled.
//
// The last bytes of the range are read into memory, then the file is looked at, then they are sent.
// A file that was cut or changed before that look never makes a whole transfer, though pages of it,
// or zeroes in their place, may be with the peer. One that is changed between the look and the
// moment when the peer has taken the bytes still shows in the pages that wait for it
// (kernel-notes/spliced_page_shows_later_writes.md): nobody can see that one coming.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "kernel/page_cache.hpp"
#include "kernel/socket.hpp"
#include "transfer/op_count.hpp"
#include "transfer/sending.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

// Of the range, sent from memory. Small enough for a frame that is kept (base/frame_pool.hpp).
constexpr std::uint64_t last_part_bytes_max = 2048;

// What is spliced in front of it ends at a multiple of that, or is nothing.
std::uint64_t last_part_bytes(const sending& s) {
  const std::uint64_t end = s.options.offset + s.options.length;
  return std::min(s.options.length, (end + last_part_bytes_max - 1) % last_part_bytes_max + 1);
}

// What is left of the part that is not sent from memory.
std::uint64_t to_splice(const sending& s) { return s.left() - last_part_bytes(s); }

// What a try to give the socket more came to; a full socket took nothing.
struct attempt {
  std::uint64_t moved = 0;
  int failure = 0;
};
attempt outcome_of(const result<std::size_t>& got) {
  if (got) return {*got, 0};
  return {0, got.error().code == EAGAIN ? 0 : got.error().code};
}

op_request head_request(const sending& s, const op_pace& taker) {
  op_request request;
  request.kind = op_kind::send;
  request.fd = s.to.fd();
  request.flags = MSG_NOSIGNAL | MSG_WAITALL | MSG_MORE;
  request.data = const_cast<std::byte*>(s.head.data());
  request.length = s.head.size();
  if (taker.is_last_try()) do_not_wait(request);
  return request;
}

op_request writable_request(const sending& s) {
  op_request request;
  request.kind = op_kind::poll;
  request.fd = s.to.fd();
  request.flags = POLLOUT;
  return request;
}

// What of the file was in the cache a moment ago. A full socket takes a few hundred KiB at a time,
// and asking costs three system calls: so the answer is kept for the calls that follow, and while
// it is yes, more is asked for each time.
class resident_range {
 public:
  // Whether all of it is there, or was.
  bool holds(const sending& s, std::uint64_t bytes) {
    const std::uint64_t begin = s.next_offset();
    const std::int64_t now = kernel::now_ns();
    if (begin + bytes <= end_ && now - asked_ns_ < kept_ns) return true;
    const int fd = s.from.fd.get();
    const std::uint64_t more = std::min(std::max(bytes, ask_bytes_), to_splice(s));
    asked_ns_ = now;
    end_ = begin;
    if (more > bytes && kernel::is_resident(fd, begin, more)) {
      end_ = begin + more;
    } else if (kernel::is_resident(fd, begin, bytes)) {
      end_ = begin + bytes;
    }
    const bool all = end_ == begin + more;
    ask_bytes_ = all ? std::min(2 * more, ask_bytes_max) : 0;
    return end_ > begin;
  }

 private:
  // Pages may be dropped meanwhile: the loop would then wait for the disk, for once.
  static constexpr std::int64_t kept_ns = 20'000'000;
  static constexpr std::uint64_t ask_bytes_max = 8 << 20;

  std::uint64_t end_ = 0;  // in the file
  std::int64_t asked_ns_ = 0;
  std::uint64_t ask_bytes_ = 0;
};

// The loop itself only where nothing can wait: the socket is non-blocking, and the pages are there.
op_route route_of(const sending& s, std::uint64_t bytes, resident_range& resident) {
  engine_core& core = s.from.core;
  if (core.values().splice.via == tuning::splice_choice::pool) return op_route::worker;
  if (!resident.holds(s, bytes)) {
    core.counters().splice.absent_chunks.add();
    return op_route::worker;
  }
  core.counters().splice.inline_calls.add();
  return op_route::loop_thread;
}

op_request sendfile_request(const sending& s, resident_range& resident) {
  op_request request;
  request.kind = op_kind::sendfile;
  request.fd = s.to.fd();
  request.fd2 = s.from.fd.get();
  request.offset2 = s.next_offset();
  request.length = std::min<std::uint64_t>(s.from.core.values().splice.chunk_bytes, to_splice(s));
  request.route = route_of(s, request.length, resident);
  request.accept_again = true;
  return request;
}

op_request into_pipe_request(const sending& s, const kernel::pipe& into) {
  op_request request;
  request.kind = op_kind::splice;
  request.fd = into.write_end();
  request.offset = op_no_offset;
  request.fd2 = s.from.fd.get();
  request.offset2 = s.next_offset();
  request.length = std::min<std::uint64_t>(into.bytes(), to_splice(s));
  return request;
}

op_request out_of_pipe_request(const sending& s, const kernel::pipe& from, std::uint64_t held) {
  op_request request;
  request.kind = op_kind::splice;
  request.fd = s.to.fd();
  request.offset = op_no_offset;
  request.fd2 = from.read_end();
  request.offset2 = op_no_offset;
  request.length = held;
  request.flags = SPLICE_F_NONBLOCK | SPLICE_F_MORE;  // the last part follows
  request.accept_again = true;
  return request;
}

task<int> send_head(sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  op_pace taker({knobs.timeout_ms, knobs.rate_min_bytes}, op_pace::at_silence::try_once);
  while (!s.head.empty()) {
    taker.begins(kernel::now_ns());
    op_await send(s.from.core.loop(), head_request(s, taker), taker.interval());
    const result<std::size_t> sent = co_await send;
    count_op(s.so_far, send.awaited());
    s.head = s.head.subspan(static_cast<std::size_t>(send.moved()));
    if (s.head.empty()) break;
    if (!sent && !was_silent(taker, sent.error().code)) co_return sent.error().code;
    if (send.moved() > 0) ++s.so_far.short_ops;
    const bool ran_out = !sent && sent.error().code == ETIMEDOUT;
    const int failure = taker.ended(send.moved(), ran_out, false, kernel::now_ns());
    if (failure != 0) co_return failure;
  }
  co_return 0;
}

// One coroutine frame for all chunks: nothing is allocated per chunk.
task<int> send_by_sendfile(sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  pace peer({knobs.timeout_ms, knobs.rate_min_bytes}, kernel::now_ns());
  resident_range resident;
  while (to_splice(s) > 0) {
    const std::int64_t ours_since_ns = kernel::now_ns();
    const op_request request = sendfile_request(s, resident);
    op_await sendfile(s.from.core.loop(), request);
    const result<std::size_t> got = co_await sendfile;
    const std::int64_t now = kernel::now_ns();
    peer.kept_waiting(now - ours_since_ns);  // the socket does not wait, the disk may
    count_op(s.so_far, sendfile.awaited());
    const attempt a = outcome_of(got);
    if (a.failure != 0) co_return a.failure;
    if (got && a.moved == 0) co_return code::end_of_stream;  // the file is shorter than the range
    s.count_moved(a.moved);
    const int failure = peer.tried(a.moved, now);
    if (failure != 0) co_return failure;
    if (a.moved == request.length) continue;
    if (a.moved > 0) ++s.so_far.short_ops;
    op_await polling(s.from.core.loop(), writable_request(s), peer.interval());
    const int waited = peer.waited(co_await polling);
    count_op(s.so_far, polling.awaited());
    if (waited != 0) co_return waited;
  }
  co_return 0;
}

// A pipe only from one piece of the file to the next: taken empty, given back empty. Whoever ends
// in between leaves bytes in it, and the pool then closes it.
task<int> send_by_pipe(sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  pace peer({knobs.timeout_ms, knobs.rate_min_bytes}, kernel::now_ns());
  while (to_splice(s) > 0) {
    const std::int64_t ours_since_ns = kernel::now_ns();
    pipe_await taking = s.from.core.pipes().take(peer.lease_timeout());
    result<pipe_lease> pipe = co_await taking;
    if (!pipe) co_return pipe.error().code == ETIMEDOUT ? ENOBUFS : pipe.error().code;
    op_await filling(s.from.core.loop(), into_pipe_request(s, **pipe));
    const result<std::size_t> filled = co_await filling;
    count_op(s.so_far, filling.awaited());
    if (!filled) {
      s.op = "read";
      co_return filled.error().code;
    }
    if (*filled == 0) co_return code::end_of_stream;
    const std::int64_t filled_ns = kernel::now_ns();
    peer.kept_waiting(filled_ns - ours_since_ns);
    for (std::uint64_t held = *filled; held > 0;) {
      op_await emptying(s.from.core.loop(), out_of_pipe_request(s, **pipe, held));
      const attempt a = outcome_of(co_await emptying);
      count_op(s.so_far, emptying.awaited());
      if (a.failure != 0) co_return a.failure;
      s.count_moved(a.moved);
      held -= a.moved;
      const std::int64_t now = kernel::now_ns();
      int failure = peer.tried(a.moved, now);
      if (failure == 0 && held > 0) {
        failure = peer.still_holding(filled_ns, now, s.from.core.pipes().wanted());
      }
      if (failure != 0) co_return failure;
      if (held == 0) break;
      if (a.moved > 0) ++s.so_far.short_ops;
      op_await polling(s.from.core.loop(), writable_request(s), peer.interval());
      const int waited = peer.waited(co_await polling);
      count_op(s.so_far, polling.awaited());
      if (waited != 0) co_return waited;
    }
  }
  co_return 0;
}

bool says_cannot(int failure) {
  return failure == EINVAL || failure == EOPNOTSUPP || failure == ENOSYS;
}

// By the loop itself: only what is in the cache, or nothing.
op_request last_part_request(const sending& s, std::span<std::byte> into, op_route route) {
  op_request request = on_file(s.from, op_kind::read);
  request.data = into.data();
  request.length = into.size();
  request.offset = s.next_offset();
  if (route != op_route::loop_thread) return request;
  request.route = route;
  request.flags = RWF_NOWAIT;
  request.accept_short = true;
  request.accept_again = true;
  return request;
}

task<int> send_last_part(sending& s) {
  std::array<std::byte, last_part_bytes_max> memory;
  const std::span<std::byte> bytes(memory.data(), s.left());
  op_await trying(s.from.core.loop(), last_part_request(s, bytes, op_route::loop_thread));
  const result<std::size_t> cached = co_await trying;
  count_op(s.so_far, trying.awaited());
  if (!cached || *cached < bytes.size()) {
    op_await reading(s.from.core.loop(), last_part_request(s, bytes, op_route::automatic));
    const result<std::size_t> read = co_await reading;
    count_op(s.so_far, reading.awaited());
    if (!read) {
      s.op = "read";
      co_return read.error().code;
    }
    if (*read < bytes.size()) co_return code::end_of_stream;
  }
  look_await looking(s.from.core, s.from.fd.get());
  const result<file_look> now = co_await looking;
  const int changed = change_of(s, now);
  if (changed != 0) co_return changed;
  const int failure = co_await send_message(s, bytes);
  if (failure != 0) co_return failure;
  s.count_moved(bytes.size());
  s.so_far.misrouted_bytes += bytes.size();
  co_return 0;
}

task<int> splice_first_part(sending& s) {
  const int failure = co_await send_head(s);
  if (failure != 0) co_return failure;
  if (s.from.core.values().splice.via == tuning::splice_choice::ring) {
    co_return co_await send_by_pipe(s);
  }
  co_return co_await send_by_sendfile(s);
}

}  // namespace

task<int> send_spliced(sending& s) {
  const result<void> non_blocking = kernel::set_mode(s.to.fd(), kernel::socket_mode::non_blocking);
  if (!non_blocking) co_return non_blocking.error().code;
  if (s.options.length == 0) co_return co_await send_message(s, {});
  if (to_splice(s) > 0) {
    const int failure = co_await splice_first_part(s);
    if (s.so_far.bytes == 0 && says_cannot(failure)) co_return EOPNOTSUPP;
    if (failure != 0) co_return failure;
  }
  co_return co_await send_last_part(s);
}

}  // namespace sluice
