// Stream to stream, both ways at once. Each direction is a coroutine of its own that goes through
// these steps, every one of them an operation:
//   idle      polls its source; holds nothing meanwhile
//   taking    there is something: takes a pipe, or a block to copy through
//   filling   source to pipe, or to block; when nothing is left it lets go of that and is idle
//   emptying  pipe or block to sink; on with filling when all is gone
//   blocked   the sink is full: polls it, and holds what it has; its source is not read, so that
//             the peer there is held back by its own window
// On non-blocking sockets neither filling nor emptying waits, so that the loop makes the calls
// itself, those of a pipe in a row (pipe_run.hpp). Worked example: 100,000 bytes are there, the
// pipe takes 65,536, the sink 40,000 of them: blocked with 25,536, and when that sink resets its
// receipt says 40,000; the pipe goes back to the pool with bytes in it and is closed there.
#include "sluice/relay.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include "core/engine_core.hpp"
#include "core/waiter.hpp"
#include "kernel/clock.hpp"
#include "kernel/socket.hpp"
#include "transfer/deadline.hpp"
#include "transfer/op_count.hpp"
#include "transfer/pipe_run.hpp"
#include "transfer/planner.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

// What both directions share.
struct relaying {
  relaying(engine_core& on, std::uint64_t rate_min_bytes)
      : core(on),
        ended(on.loop()),
        has_rate(rate_min_bytes > 0),
        rate({on.values().relay.timeout_ms, rate_min_bytes}, begun_ns) {}
  engine_core& core;
  waiter ended;  // a direction has
  const std::int64_t begun_ns = kernel::now_ns();
  std::int64_t moved_ns = begun_ns;  // by either: silence of one is none while the other moves
  int failure = 0;                   // the first
  const char* where = "relay";       // what its error says: of a refused path the reason
  const bool has_rate;
  pace rate;  // of both together
  [[nodiscard]] std::int64_t limit_ns() const {
    return std::int64_t{core.values().relay.timeout_ms} * 1'000'000;
  }
  // How long a sink may take nothing of what others wait for: those may be receives and sends,
  // which give up in twice their own time. 0: as long as it likes.
  [[nodiscard]] std::int64_t hold_limit_ns() const {
    const tuning::knob_values& values = core.values();
    std::uint32_t shortest_ms = 0;
    for (const std::uint32_t ms :
         {values.relay.timeout_ms, values.receive.timeout_ms, values.send.timeout_ms}) {
      if (ms != 0 && (shortest_ms == 0 || ms < shortest_ms)) shortest_ms = ms;
    }
    return std::int64_t{shortest_ms} * 1'000'000;
  }
  // For so long a direction waited for a pipe or a block: no silence of the peers.
  void kept_waiting(std::int64_t since_ns) {
    const std::int64_t now = kernel::now_ns();
    moved_ns = std::min(now, moved_ns + now - since_ns);
    rate.kept_waiting(now - since_ns);
  }
  // One of them has moved so much: 0, or why that is too little.
  [[nodiscard]] int rate_verdict(std::uint64_t bytes) {
    return has_rate ? rate.tried(bytes, kernel::now_ns()) : 0;
  }
};

// Then it is the others' turn, some 2 ms later. With 1 MiB sixteen connections cost 1.4 times the
// CPU of going on until one end would wait, with 4 MiB 1.1 (kernel-notes/splice_via.md).
constexpr std::uint64_t run_bytes = std::uint64_t{8} << 20;

enum class step : std::uint8_t { idle, taking, filling, emptying, blocked, ended };

class direction {
 public:
  direction(relaying& both, stream& from, stream& to, const plan& chosen, receipt& so_far)
      : both_(both),
        from_(from),
        to_(to),
        so_far_(so_far),
        by_pipe_(chosen.chosen == path::splice) {
    so_far_.path = chosen.chosen;
    so_far_.reason = chosen.reason;
    so_far_.copies = by_pipe_ ? 0 : 2;
  }

  void begin(std::span<const std::byte> received, direction& back);
  void cancel();
  [[nodiscard]] bool has_ended() const { return step_ == step::ended; }

 private:
  detail::root_task flow();
  [[nodiscard]] bool waits_for_pipe();
  [[nodiscard]] bool is_run() const;
  [[nodiscard]] op_request run_request();
  [[nodiscard]] op_request request() const;
  [[nodiscard]] op_request splice_request(int from, int to, std::uint64_t bytes,
                                          bool to_own_pipe) const;
  [[nodiscard]] std::chrono::nanoseconds patience() const;
  [[nodiscard]] bool is_left_to_back() const;
  [[nodiscard]] bool tried_in_vain() const {
    return in_vain_ns_ - both_.moved_ns >= both_.limit_ns();
  }
  [[nodiscard]] bool is_stuck() const;
  void judge_silence();
  [[nodiscard]] int rate_verdict(std::uint64_t bytes);
  void taken(result<pipe_lease> got);
  void taken(result<lease> got);
  void answered(const result<std::size_t>& got);
  void waited(const result<std::size_t>& ready);
  void filled(const result<std::size_t>& got);
  void emptied(const result<std::size_t>& got);
  void ran(int failure);
  void count_moved(std::uint64_t bytes);
  void go_on(std::uint64_t moved);
  void pass_on_end();
  void let_go(step next);
  void copy_on(const char* reason);
  void refuse(const char* reason);
  void end(int failure);
  [[nodiscard]] const tuning::relay_knobs& knobs() const { return both_.core.values().relay; }
  [[nodiscard]] bool others_wait() const {
    return pipe_ ? both_.core.pipes().wanted() : block_ && both_.core.blocks().wanted();
  }

  relaying& both_;
  stream& from_;
  stream& to_;
  receipt& so_far_;
  const bool may_copy_ = knobs().path != tuning::relay_choice::splice;
  direction* back_ = nullptr;  // the other one
  scope* runs_in_ = nullptr;
  step step_ = step::idle;
  bool by_pipe_;  // false: this system or these sockets have no splice, or the knob says so
  pipe_lease pipe_;
  std::uint64_t held_ = 0;  // in the pipe
  pipe_run run_;
  lease block_;
  std::span<const std::byte> bytes_;  // in the block, or handed in by the caller
  std::int64_t blocked_ns_ = 0;       // since when the sink has taken nothing
  std::int64_t looked_ns_ = 0;        // when last nobody waited for what we hold
  std::int64_t in_vain_ns_ = 0;       // the last try at the end of a silence that moved nothing
  bool is_last_try_ = false;          // the emptying under way: at the end of a silence
  std::int64_t taking_since_ns_ = 0;  // waits for a pipe or block, 0: it does not
  bool told_readable_ = false;        // by the poll that nothing was received after
};

void direction::begin(std::span<const std::byte> received, direction& back) {
  back_ = &back;
  bytes_ = received;
  blocked_ns_ = both_.begun_ns;
  if (!bytes_.empty()) step_ = step::emptying;
  detail::root_task begun = flow();
  runs_in_ = &begun.handle.promise().task_scope_;
  begun.handle.resume();
}

// In a scope of its own, so that the end of one direction can end the other. One frame for all
// rounds: nothing is allocated per round.
detail::root_task direction::flow() {
  const stall_watch watch({knobs().timeout_ms, 0});
  while (step_ != step::ended) {
    if (is_run()) {
      op_await running(both_.core.loop(), run_request());
      const result<std::size_t> got = co_await running;
      ran(got ? 0 : got.error().code);
      continue;
    }
    if (step_ != step::taking) {
      op_await acting(both_.core.loop(), request(), patience());
      const result<std::size_t> got = co_await acting;
      count_op(so_far_, acting.awaited());
      answered(got);
      continue;
    }
    const bool for_pipe = waits_for_pipe();
    if (step_ != step::taking) continue;
    taking_since_ns_ = kernel::now_ns();
    if (for_pipe) {
      pipe_await taking = both_.core.pipes().take(watch.lease_timeout());
      taken(co_await taking);
    } else {
      lease_await taking(both_.core.blocks(), both_.core.loop(), watch.lease_timeout());
      taken(co_await taking);
    }
    both_.kept_waiting(std::exchange(taking_since_ns_, 0));
  }
  runs_in_ = nullptr;
  both_.ended.notify();
}

void direction::cancel() {
  if (runs_in_ != nullptr) runs_in_->cancel(both_.core.loop());
}

// None at hand: all are taken, or one more could not be made.
const char* why_no_pipe(int shortage) {
  switch (shortage) {
    case 0: return "auto: spliced, but copied while every pipe was taken";
    case EMFILE:
      return "auto: spliced, but copied while the process had no descriptors for a pipe (EMFILE)";
    case ENFILE:
      return "auto: spliced, but copied while the system had no descriptors for a pipe (ENFILE)";
    default: return "auto: spliced, but copied while no pipe could be made";
  }
}

// True: for a pipe and nothing else. False: for a block, unless the step is another one now because
// a pipe was at hand.
bool direction::waits_for_pipe() {
  if (!by_pipe_) return false;
  if (!may_copy_) return true;
  std::optional<result<pipe_lease>> at_hand = both_.core.pipes().try_take();
  if (at_hand && *at_hand) {
    taken(std::move(*at_hand));
  } else {
    so_far_.reason = why_no_pipe(both_.core.pipes().shortage());
  }
  return false;
}

void direction::taken(result<pipe_lease> got) {
  if (!got) return end(got.error().code == ETIMEDOUT ? ENOBUFS : got.error().code);
  pipe_ = std::move(*got);
  step_ = step::filling;
}

void direction::taken(result<lease> got) {
  if (!got) return end(got.error().code == ETIMEDOUT ? ENOBUFS : got.error().code);
  block_ = std::move(*got);
  step_ = step::filling;
}

// Calls of a pipe that the loop makes itself.
bool direction::is_run() const {
  const bool moves = step_ == step::filling || step_ == step::emptying;
  return moves && pipe_ && bytes_.empty() &&
         both_.core.values().splice.via == tuning::splice_choice::loop;
}

op_request direction::run_request() {
  run_ = {.from = from_.fd(),
          .to = to_.fd(),
          .pipe_in = (*pipe_).write_end(),
          .pipe_out = (*pipe_).read_end(),
          .pipe_bytes = (*pipe_).bytes(),
          .held = held_,
          .enough = run_bytes,
          .goes_on = !others_wait()};
  return request_of(run_, op_route::loop_thread);
}

op_request direction::splice_request(int from, int to, std::uint64_t bytes,
                                     bool to_own_pipe) const {
  op_request request;
  request.kind = op_kind::splice;
  request.fd = to;
  request.offset = op_no_offset;
  request.fd2 = from;
  request.offset2 = op_no_offset;
  request.length = bytes;
  request.flags = SPLICE_F_NONBLOCK;
  request.accept_again = true;
  request.to_own_pipe = to_own_pipe;
  const bool by_pool = both_.core.values().splice.via == tuning::splice_choice::pool;
  request.route = by_pool ? op_route::worker : op_route::automatic;
  return request;
}

op_request poll_request(const stream& on, std::uint32_t events) {
  op_request request;
  request.kind = op_kind::poll;
  request.fd = on.fd();
  request.flags = events;
  return request;
}

// By the loop itself: MSG_DONTWAIT is how it performs them.
op_request socket_request(op_kind kind, const stream& on, std::span<const std::byte> bytes) {
  op_request request;
  request.kind = kind;
  request.fd = on.fd();
  request.flags = MSG_NOSIGNAL;
  request.data = const_cast<std::byte*>(bytes.data());
  request.length = bytes.size();
  request.route = op_route::loop_thread;
  request.accept_short = true;
  request.accept_again = true;
  return request;
}

op_request direction::request() const {
  switch (step_) {
    case step::filling:
      if (block_) return socket_request(op_kind::recv, from_, block_.bytes());
      return splice_request(from_.fd(), (*pipe_).write_end(), (*pipe_).bytes(), true);
    case step::emptying:
      if (!bytes_.empty()) return socket_request(op_kind::send, to_, bytes_);
      return splice_request((*pipe_).read_end(), to_.fd(), held_, false);
    case step::blocked: return poll_request(to_, POLLOUT);
    default: return poll_request(from_, POLLIN | POLLRDHUP);
  }
}

// How long the operation of this step may take; zero: as long as it likes.
std::chrono::nanoseconds direction::patience() const {
  if (step_ != step::idle && step_ != step::blocked) return {};
  const std::int64_t now = kernel::now_ns();
  std::int64_t left = std::numeric_limits<std::int64_t>::max();
  if (both_.limit_ns() != 0) {
    const bool is_none = back_->step_ == step::taking || is_left_to_back();
    left = (is_none ? now : both_.moved_ns) + both_.limit_ns() - now;
  }
  if (step_ == step::blocked && both_.hold_limit_ns() != 0)
    left = std::min(left, std::max(blocked_ns_, looked_ns_) + both_.hold_limit_ns() - now);
  if (both_.has_rate) left = std::min(left, both_.rate.interval_end_ns() - now);
  if (left == std::numeric_limits<std::int64_t>::max()) return {};
  return std::chrono::nanoseconds(std::max<std::int64_t>(left, 1));
}

void direction::answered(const result<std::size_t>& got) {
  switch (step_) {
    case step::filling: return filled(got);
    case step::emptying: return emptied(got);
    default: return waited(got);
  }
}

void direction::waited(const result<std::size_t>& ready) {
  if (ready) {
    told_readable_ = step_ == step::idle;
    step_ = step_ == step::idle ? step::taking : step::emptying;
    return;
  }
  if (ready.error().code != ETIMEDOUT) return end(ready.error().code);
  if (step_ != step::blocked || (is_stuck() && others_wait())) return judge_silence();
  is_last_try_ = true;
  step_ = step::emptying;
}

// Whether it is for the other direction to say that the peers are silent: it has its last try
// before it.
bool direction::is_left_to_back() const {
  const bool back_holds = back_->step_ == step::blocked || back_->step_ == step::emptying;
  return back_holds && !back_->tried_in_vain() && (step_ == step::idle || tried_in_vain());
}

// The sink has not become writable for so long that whoever waits for what we hold comes first.
bool direction::is_stuck() const {
  const std::int64_t limit_ns = both_.hold_limit_ns();
  return limit_ns != 0 && step_ == step::blocked && kernel::now_ns() - blocked_ns_ >= limit_ns;
}

// A wait for a peer has run out, and where that is the sink so has a last try: a full TCP socket
// says that it is writable once a third of its send buffer is free, which may take a slow peer
// longer.
void direction::judge_silence() {
  if (step_ == step::idle && is_left_to_back()) return;
  const std::int64_t now = kernel::now_ns();
  if (is_stuck() && others_wait()) return end(code::too_slow);
  looked_ns_ = now;
  const bool silent = both_.limit_ns() != 0 && now - both_.moved_ns >= both_.limit_ns();
  if (silent && back_->step_ != step::taking && !is_left_to_back()) return end(ETIMEDOUT);
  const int slow = rate_verdict(0);
  if (slow != 0) end(slow);
}

// What the other direction has waited for memory of ours so far is no time of the peers'.
int direction::rate_verdict(std::uint64_t bytes) {
  if (back_->taking_since_ns_ != 0) {
    both_.kept_waiting(std::exchange(back_->taking_since_ns_, kernel::now_ns()));
  }
  return both_.rate_verdict(bytes);
}

// Of the first try: this kind of socket has no splice.
bool says_cannot(int failure) { return failure == EINVAL || failure == EOPNOTSUPP; }

void direction::filled(const result<std::size_t>& got) {
  const bool was_told = std::exchange(told_readable_, false);
  if (got && *got > 0) {
    both_.moved_ns = blocked_ns_ = kernel::now_ns();
    if (pipe_) held_ = *got;
    if (block_) bytes_ = std::span(block_.data(), *got);
    step_ = step::emptying;
    return;
  }
  const bool at_end = got.has_value();
  if (!at_end && got.error().code != EAGAIN) {
    if (!pipe_ || !says_cannot(got.error().code)) return end(got.error().code);
    return copy_on("splice refused by the socket");
  }
  if (pipe_ && (at_end || was_told) && kernel::at_urgent_mark(from_.fd()))
    return copy_on("splice cannot pass urgent data of the peer");
  if (at_end) return pass_on_end();
  let_go(step::idle);
}

// The rest of this direction, by blocks.
void direction::copy_on(const char* reason) {
  if (!may_copy_) return refuse(reason);
  by_pipe_ = false;
  so_far_.path = path::copy;
  so_far_.reason = reason;
  so_far_.copies = 2;
  so_far_.misrouted_bytes = so_far_.bytes - so_far_.misrouted_bytes;  // those that were spliced
  let_go(step::taking);
}

void direction::emptied(const result<std::size_t>& got) {
  if (!got && got.error().code != EAGAIN) return end(got.error().code);
  const std::size_t moved = got ? *got : 0;
  if (got && moved == 0) return end(EIO);  // takes nothing and gives no reason
  tuning::relay_counters& counters = both_.core.counters().relay;
  (bytes_.empty() ? counters.spliced_bytes : counters.copied_bytes).add(moved);
  if (!bytes_.empty() && so_far_.path == path::splice) so_far_.misrouted_bytes += moved;
  if (bytes_.empty()) {
    held_ -= moved;
  } else {
    bytes_ = bytes_.subspan(moved);
  }
  if (moved > 0) count_moved(moved);
  if (moved > 0 && (held_ > 0 || !bytes_.empty())) ++so_far_.short_ops;
  go_on(moved);
}

// A run that was cancelled before it began has told nothing.
void direction::ran(int failure) {
  if (run_.stopped == pipe_run::stop::not_begun) return end(failure);
  so_far_.ops += run_.calls;
  both_.core.counters().ops.submitted.add(run_.calls - 1);  // one is the loop's
  so_far_.short_ops += run_.short_calls;
  held_ = run_.held;
  if (run_.filled > 0) {
    told_readable_ = false;
    both_.moved_ns = blocked_ns_ = kernel::now_ns();
  }
  both_.core.counters().relay.spliced_bytes.add(run_.moved);
  if (run_.moved > 0) count_moved(run_.moved);
  const bool is_at_source = run_.stopped == pipe_run::stop::at_source;
  if (run_.stopped == pipe_run::stop::at_sink && run_.failure != EAGAIN)
    return end(run_.failure != 0 ? run_.failure : EIO);  // takes nothing and gives no reason
  // Its end and its error are told once: they count whoever waits for the pipe.
  const bool has_more = is_at_source && run_.failure == EAGAIN;
  if (is_at_source && !has_more) {
    const int slow = run_.moved > 0 ? rate_verdict(run_.moved) : 0;
    if (slow != 0) return end(slow);
    is_last_try_ = false;
    step_ = step::filling;
  } else if (!is_at_source || run_.moved > 0) {
    go_on(run_.moved);
  }
  if (!is_at_source || step_ != step::filling) return;
  result<std::size_t> nothing = 0;
  if (run_.failure != 0) nothing = fail(run_.failure, "splice", "relay");
  filled(nothing);
}

void direction::count_moved(std::uint64_t bytes) {
  so_far_.bytes += bytes;
  both_.moved_ns = blocked_ns_ = kernel::now_ns();
  if (so_far_.first_byte.count() == 0)
    so_far_.first_byte = std::chrono::nanoseconds(both_.moved_ns - both_.begun_ns);
}

// The sink was given something and has taken `moved` of it: what is next.
void direction::go_on(std::uint64_t moved) {
  const int slow = rate_verdict(moved);
  if (slow != 0) return end(slow);
  const bool was_last_try = std::exchange(is_last_try_, false);
  if (held_ > 0 || !bytes_.empty()) {
    step_ = step::blocked;
    if (!was_last_try || moved > 0) return;
    in_vain_ns_ = kernel::now_ns();
    return judge_silence();
  }
  if ((!pipe_ && !block_) || others_wait()) return let_go(step::idle);
  step_ = step::filling;
}

// A connection that both sides have ended looks like one that was reset: the other direction may
// have passed on an end (kernel-notes/closed_tcp_looks_reset.md).
void direction::pass_on_end() {
  if (!from_.has_sent_end() && kernel::was_reset(from_.fd())) return end(ECONNRESET);
  if (to_.has_sent_end()) return end(0);  // ENOTCONN, where that peer has ended too
  const result<void> passed = to_.shutdown(SHUT_WR);
  if (passed) return end(0);
  end(passed.error().code == ENOTCONN ? ECONNRESET : passed.error().code);
}

void direction::let_go(step next) {
  pipe_.reset();
  block_.reset();
  step_ = next;
}

// The path was forced and cannot carry this relay.
void direction::refuse(const char* reason) {
  if (both_.failure == 0) both_.where = reason;
  so_far_.reason = reason;
  end(code::path_unavailable);
}

void direction::end(int failure) {
  if (both_.failure == 0) both_.failure = failure;
  so_far_.last_byte = std::chrono::nanoseconds(kernel::now_ns() - both_.begun_ns);
  so_far_.stored = so_far_.last_byte;
  let_go(step::ended);
}

// Ends when both directions have, whatever happens in between. 0, or why the relay failed.
task<int> both_ways(relaying& r, direction& there, direction& back, const relay_options& options) {
  there.begin(options.from_first, back);
  back.begin(options.from_second, there);
  bool told_to_end = false;
  while (!there.has_ended() || !back.has_ended()) {
    if (r.failure == 0) {
      const bool notified = co_await r.ended.notified();
      if (!notified) r.failure = ECANCELED;
    } else if (!told_to_end) {
      told_to_end = true;
      there.cancel();
      back.cancel();
    } else {
      co_await r.ended.notified_shielded();
    }
  }
  co_return r.failure;
}

const char* obstacle(const stream& first, const stream& second) {
  if (first.fd() == second.fd()) return "a stream cannot be relayed to itself";
  if (&first.core() != &second.core()) return "the streams belong to two engines";
  return nullptr;
}

task<result<void>> carry_out(stream& first, stream& second, const plan& chosen,
                             const relay_options& options, relay_receipts& so_far) {
  relaying r(first.core(), options.rate_min_bytes);
  direction there(r, first, second, chosen, so_far.to_second);
  direction back(r, second, first, chosen, so_far.to_first);
  if (chosen.refused) co_return fail(code::path_unavailable, "relay", chosen.reason);
  for (const stream* each : {&first, &second}) {
    if (chosen.chosen == path::copy) break;
    const result<void> set = kernel::set_mode(each->fd(), kernel::socket_mode::non_blocking);
    if (!set) co_return fail(set.error().code, "relay", "relay");
  }
  const int failure = co_await both_ways(r, there, back, options);
  if (failure != 0) co_return fail(failure, "relay", r.where);
  co_return result<void>{};
}

task<result<relay_receipts>> relay_at_all(stream& first, stream& second, relay_options options,
                                          relay_receipts* progress) {
  relay_receipts own;
  relay_receipts& so_far = progress != nullptr ? *progress : own;
  so_far = {};
  so_far.to_second.begun = so_far.to_first.begun = std::chrono::steady_clock::now();
  if (!first || !second) co_return fail(EBADF, "relay", "a stream is closed");
  if (const char* why = obstacle(first, second); why != nullptr) {
    co_return fail(EINVAL, "relay", why);
  }
  engine_core& core = first.core();
  const plan chosen =
      plan_relay({.block_bytes = core.values().memory.block_bytes, .splice = core.tried().splice},
                 core.values().relay);
  const result<void> done = co_await carry_out(first, second, chosen, options, so_far);
  tuning::relay_counters& counters = core.counters().relay;
  (done ? counters.relays : counters.failures).add();
  if (!done) co_return std::unexpected(done.error());
  co_return so_far;
}

}  // namespace

task<result<relay_receipts>> relay(stream& first, stream& second, relay_options options,
                                   relay_receipts* progress) {
  task<result<relay_receipts>> whole = relay_at_all(first, second, options, progress);
  if (options.deadline.count() == 0 || !first) return whole;
  return ended_within(first.core(), options.deadline, std::move(whole));
}

}  // namespace sluice
