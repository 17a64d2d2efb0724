#include "backend/loop.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "kernel/clock.hpp"
#include "kernel/uapi.hpp"
#include "ops/state.hpp"
#include "ops/table.hpp"

namespace sluice {
namespace {

// EINTR and EAGAIN of one op in a row before it is told them: they do arrive as results
// (axboe/liburing#364 and #744), and a socket left in the wrong mode would say EAGAIN for ever.
constexpr std::uint16_t retries_max = 64;

bool is_bulk_write(op_kind kind) {
  return kind == op_kind::write || kind == op_kind::writev || kind == op_kind::write_fixed ||
         kind == op_kind::writev_fixed;
}

retry_rule rule_of(const op& o) { return row_of(o.request.kind).when_interrupted; }

bool is_interruption(std::int64_t result) {
  return result == -EINTR || result == -EAGAIN || result == -uapi::error_restartsys;
}

// Whether a cancelled op did not get to its end (kernel-notes/cancel_result.md): it was not begun,
// or it is one that is as if it had not been.
bool left_nothing_done(const op& o) {
  if (o.result == -ECANCELED || o.result == -code::no_thread) return true;
  return is_interruption(o.result) && rule_of(o) == retry_rule::again;
}

// A call that moved bytes before the peer went says their count, and has raised the signal too.
bool may_have_raised_sigpipe(const op& o) {
  return o.result == -EPIPE ||
         (o.result > 0 && static_cast<std::uint64_t>(o.result) < o.request.length);
}

// What the caller of an op that was interrupted for good is told.
std::int64_t as_told(const op& o) {
  if (o.result != -EINTR && o.result != -uapi::error_restartsys) return o.result;
  return rule_of(o) == retry_rule::closed ? 0 : -EINTR;
}

}  // namespace

loop::loop(backend& carrier, tuning::counters& counters) : backend_(carrier), counters_(counters) {}

loop::~loop() { base::require(under_way_ == 0, "a loop ended with an operation under way"); }

void loop::start(op& o, scope* task_scope) {
  assert(o.state() == op_state::idle);
  o.done = 0;
  o.rounds = 0;
  o.short_rounds = 0;
  o.retries = 0;
  o.cancel_reason = 0;
  o.holds_memory = false;
  o.copied = false;
  ++under_way_;
  if (task_scope != nullptr) {
    task_scope->ops.push_back(o);
    if (task_scope->cancelled()) {
      finish(o, -ECANCELED);
      return;
    }
  }
  set_state(o, op_state::staged);
  if (o.deadline_ns != 0) timers_.insert(o);
  call_host();
  if (row_of(o.request.kind).by == carrier::loop) {
    // Its waker's list, if any, is joined by the caller right after.
    set_state(o, op_state::in_flight);
    return;
  }
  staged_.push_back(o);
}

void loop::cancel(op& o, int reason) {
  if (o.state() == op_state::staged) {
    o.link.unlink();
    finish(o, -reason);
  } else if (o.state() == op_state::in_flight) {
    o.cancel_reason = reason;
    if (row_of(o.request.kind).by == carrier::loop) {
      o.link.unlink();
      finish(o, -reason);
    } else {
      set_state(o, op_state::cancelling);
      asked_to_end_ = true;
      backend_.cancel(o);
      call_host();
    }
  }
}

void loop::answer_parked(op& o, std::int64_t result) {
  assert(o.state() == op_state::in_flight && row_of(o.request.kind).by == carrier::loop);
  o.link.unlink();
  finish(o, result);
}

// What happens within a turn is seen by whoever asked for it: has_work and next_deadline_ns.
void loop::call_host() {
  if (!is_guest_ || in_turn_ || host_called_) return;
  host_called_ = true;
  backend_.wake();
}

std::size_t loop::turn(std::int64_t timeout_ns, std::size_t budget, std::uint64_t bytes) {
  counters_.loop.turns.add();
  in_turn_ = true;
  host_called_ = false;
  stage(bytes);
  asked_to_end_ = false;
  backend_.wait(wait_limit(timeout_ns), answered_);
  answered_something_ = !answered_.empty();
  while (!answered_.empty()) {
    op& o = answered_.front();
    answered_.pop_front();
    settle(o);
  }
  fire_timers();
  run_mailbox();
  const std::size_t ran = run_ready(budget);
  in_turn_ = false;
  return ran;
}

// What was put off comes first, so that each has its turn.
void loop::stage(std::uint64_t bytes) {
  no_sigpipe guard;
  moved_in_turn_ = 0;
  hand_over_refused(refused_, guard);
  hand_over_refused(refused_polls_, guard);
  staged_.splice(staged_.begin(), put_off_);
  while (!staged_.empty()) {
    op& o = staged_.front();
    staged_.pop_front();
    if (moved_in_turn_ >= bytes && moves_much(o.request) && backend_.calls_at_once(o.request)) {
      counters_.loop.put_off.add();
      put_off_.push_back(o);
    } else if (!hand_over(o, guard)) {
      (only_waits(o.request) ? refused_polls_ : refused_).push_back(o);
    }
  }
}

// Only of calls by the loop: the workers take no signal, and the kernel's own threads raise none.
bool loop::hand_over(op& o, no_sigpipe& guard) {
  const bool may_raise =
      may_raise_sigpipe(o.request) && carrier_of(o.request) == carrier::inline_call;
  if (may_raise && !guard) guard.emplace();
  const bool counts = moves_much(o.request) && backend_.calls_at_once(o.request);
  if (!backend_.start(o)) return false;
  if (counts && o.result > 0) moved_in_turn_ += static_cast<std::uint64_t>(o.result);
  if (may_raise && may_have_raised_sigpipe(o)) guard->may_have_raised();
  set_state(o, op_state::in_flight);
  ++o.rounds;
  counters_.ops.submitted.add();
  return true;
}

// Oldest first, until one finds no room again: there is none for those behind it either.
void loop::hand_over_refused(op_list& refused, no_sigpipe& guard) {
  while (!refused.empty()) {
    op& o = refused.front();
    refused.pop_front();
    if (hand_over(o, guard)) continue;
    refused.push_front(o);
    return;
  }
}

std::int64_t loop::next_deadline_ns() const {
  return timers_.empty() ? 0 : timers_.begin()->deadline_ns;
}

std::int64_t loop::wait_limit(std::int64_t timeout_ns) const {
  if (!ready_.empty() || !put_off_.empty()) return 0;
  if (timers_.empty()) return timeout_ns;
  const std::int64_t until = std::max<std::int64_t>(next_deadline_ns() - kernel::now_ns(), 0);
  return timeout_ns < 0 ? until : std::min(timeout_ns, until);
}

// The one place where a round's answer becomes a final result or another round.
void loop::settle(op& o) {
  if (o.holds_memory) {
    if (o.result >= 0) o.timer.unlink();  // of the send, which is over
    if (o.sent != nullptr) o.sent(o);
    return;
  }
  if (o.state() == op_state::cancelling) {
    settle_cancelled(o);
    return;
  }
  const bool is_answer = o.result == -EAGAIN && o.request.accept_again;
  if (!is_answer && (is_interruption(o.result) || o.result == -code::no_thread)) {
    settle_interrupted(o);
    return;
  }
  if (o.result < 0) {
    finish(o, o.result);
    return;
  }
  const auto count = static_cast<std::uint64_t>(o.result);
  if (!is_short(o.request, count)) {
    finish(o, static_cast<std::int64_t>(o.done + count));
  } else if (count == 0) {
    // The end of the file or stream; a write that moves nothing cannot be repaired by repeating it.
    finish(o, is_bulk_write(o.request.kind) ? -EIO : static_cast<std::int64_t>(o.done));
  } else {
    o.done += count;
    ++o.short_rounds;
    o.retries = 0;
    advance(o.request, count);
    counters_.ops.resumed_short.add();
    again(o);
  }
}

// An op that no thread was found for was not begun, whatever its kind.
void loop::settle_interrupted(op& o) {
  const bool begun = o.result != -code::no_thread;
  if (begun && rule_of(o) != retry_rule::again) {
    finish(o, as_told(o));
  } else if (++o.retries <= retries_max) {
    counters_.ops.retried.add();
    again(o);
  } else if (!begun && rule_of(o) == retry_rule::closed) {
    // Here, though it may wait for a disk: nobody else will, and the descriptor would be lost.
    o.result = row_of(o.request.kind).perform(o.request);
    finish(o, as_told(o));
  } else {
    finish(o, as_told(o));
  }
}

// A cancelled op that was faster has succeeded; one that was cut short says so, and `done` says
// where.
void loop::settle_cancelled(op& o) {
  if (o.result >= 0) {
    const auto count = static_cast<std::uint64_t>(o.result);
    const bool whole = !is_short(o.request, count);
    o.done += count;
    if (!whole) advance(o.request, count);
    finish(o, whole ? static_cast<std::int64_t>(o.done) : -o.cancel_reason);
  } else if (left_nothing_done(o)) {
    finish(o, -o.cancel_reason);
  } else {
    finish(o, as_told(o));
  }
}

void loop::again(op& o) {
  set_state(o, op_state::staged);
  staged_.push_back(o);
}

void loop::finish(op& o, std::int64_t result) {
  o.result = result;
  o.timer.unlink();
  set_state(o, op_state::harvested);
  ready_.push_back(o);
  call_host();
}

void loop::fire_timers() {
  if (timers_.empty()) return;
  const std::int64_t now = kernel::now_ns();
  while (!timers_.empty() && timers_.begin()->deadline_ns <= now) {
    op& o = *timers_.begin();
    o.timer.unlink();
    counters_.timers.fired.add();
    if (o.request.kind == op_kind::timeout) {
      finish(o, 0);
    } else {
      cancel(o, ETIMEDOUT);
    }
  }
}

void loop::post(std::move_only_function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(mailbox_mutex_);
    first = mailbox_.empty();
    mailbox_.push_back(std::move(work));
  }
  if (first) backend_.wake();
}

void loop::run_mailbox() {
  {
    const std::lock_guard lock(mailbox_mutex_);
    if (mailbox_.empty()) return;
    mail_now_.swap(mailbox_);
  }
  for (auto& work : mail_now_) {
    counters_.mailbox.posts.add();
    work();
  }
  mail_now_.clear();
}

std::size_t loop::run_ready(std::size_t budget) {
  std::size_t ran = 0;
  while (ran < budget && !ready_.empty()) {
    op& o = ready_.front();
    ready_.pop_front();
    o.scope_link.unlink();
    set_state(o, op_state::idle);
    --under_way_;
    ++ran;
    counters_.ops.completed.add();
    if (o.result == -ECANCELED) counters_.ops.cancelled.add();
    o.complete(o);  // may end the op's life
  }
  return ran;
}

void start(loop& on, op& o, scope* task_scope) { on.start(o, task_scope); }

}  // namespace sluice
