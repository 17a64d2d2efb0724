#include "transfer/zero_copy_window.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "core/engine_core.hpp"
#include "kernel/clock.hpp"
#include "kernel/socket.hpp"

namespace sluice {
namespace {

// This socket (AF_UNIX), or a kernel that cannot report its copies (before Linux 6.2).
bool says_cannot(std::int64_t outcome) { return outcome == -EOPNOTSUPP || outcome == -EINVAL; }

// The peer is at fault, or nobody waits for it any more.
bool is_past_waiting(int failure) {
  return failure == ECANCELED || failure == ETIMEDOUT || failure == code::too_slow;
}

}  // namespace

zero_copy_window::zero_copy_window(stream& to, std::size_t depth, scope* task_scope, int refused,
                                   const stall_limits& limits)
    : to_(to),
      loop_(to.core().loop()),
      counters_(to.core().counters().send),
      scope_(task_scope),
      depth_(depth),
      refused_(refused),
      slots_(std::make_unique<slot[]>(depth)),
      progress_(loop_),
      acknowledging_(limits) {
  free_.reserve(depth);
  for (std::size_t i = 0; i < depth; ++i) {
    slots_[i].window = this;
    slots_[i].send.context = &slots_[i];
    slots_[i].send.sent = answered_early;
    slots_[i].send.complete = ended;
    free_.push_back(&slots_[i]);
  }
}

zero_copy_window::~zero_copy_window() {
  base::require(free_.size() == depth_, "a window of sends ended before their memory was back");
}

void zero_copy_window::send(lease block, std::span<const std::byte> bytes, follows then,
                            const op_pace& taker) {
  assert(has_room() && sending_ == nullptr && block.buffer_index() >= 0);
  slot& s = *free_.back();
  free_.pop_back();
  op_request request;
  request.kind = op_kind::send_zc;
  request.fd = to_.fd();
  request.data = const_cast<std::byte*>(bytes.data());
  request.length = bytes.size();
  request.buffer_index = static_cast<std::uint16_t>(block.buffer_index());
  request.flags = MSG_NOSIGNAL | (taker.is_last_try() ? MSG_DONTWAIT : MSG_WAITALL);
  request.accept_again = taker.is_last_try();
  if (then == follows::more) request.flags |= MSG_MORE;
  s.send.request = request;
  begun_ns_ = kernel::now_ns();
  const std::int64_t timeout_ns = taker.interval().count();
  s.send.deadline_ns = timeout_ns > 0 ? kernel::deadline_after(timeout_ns) : 0;
  s.block = std::move(block);
  sending_ = &s;
  wanted_ = bytes.size();
  moved_ = 0;
  loop_.start(s.send, scope_);
}

// A failure is told by `ended`, which follows at once: until then the loop may try again.
void zero_copy_window::answered_early(op& o) noexcept {
  const slot& s = *static_cast<slot*>(o.context);
  if (o.result >= 0) s.window->answer(s, o.result);
}

void zero_copy_window::ended(op& o) noexcept {
  slot& s = *static_cast<slot*>(o.context);
  zero_copy_window& window = *s.window;
  window.answer(s, o.outcome());
  window.ops_ += o.rounds;
  if (o.outcome() > 0) {
    const auto bytes = static_cast<std::uint64_t>(o.outcome());
    window.released_ += bytes;
    if (o.copied) {
      window.counters_.zero_copy_copied_bytes.add(bytes);
      window.give_up();
    } else {
      window.counters_.zero_copy_bytes.add(bytes);
      window.zero_copy_bytes_ += bytes;
    }
  }
  s.block.reset();
  window.free_.push_back(&s);
  window.progress_.notify();
}

void zero_copy_window::answer(const slot& of, std::int64_t outcome) {
  if (sending_ != &of) return;
  sending_ = nullptr;
  outcome_ = outcome;
  progress_.notify();
}

void zero_copy_window::give_up() {
  if (to_.copies_zero_copy()) return;
  to_.note_zero_copy_copied();
  counters_.zero_copy_given_up.add();
}

int zero_copy_window::verdict(op_pace& taker, bool block_wanted, follows then) {
  if (outcome_ == 0 && wanted_ > 0) return EIO;  // takes nothing and gives no reason
  if (outcome_ > 0) moved_ = static_cast<std::size_t>(outcome_);
  if (moved_ == wanted_ && then == follows::nothing) return 0;
  if (says_cannot(outcome_)) {
    give_up();
    return refused_;
  }
  const bool is_full = outcome_ == -EAGAIN && taker.is_last_try();
  if (outcome_ < 0 && outcome_ != -ETIMEDOUT && !is_full) return static_cast<int>(-outcome_);
  // Cut short: by its deadline, or by a cancel, which the next send is told of.
  const std::int64_t now_ns = kernel::now_ns();
  const std::int64_t interval_ns = taker.interval().count();
  const bool is_late = interval_ns > 0 && now_ns - begun_ns_ >= interval_ns;
  const bool is_left = moved_ < wanted_;
  return taker.ended(moved_, is_late && is_left, block_wanted && is_left, now_ns);
}

waiter::wait_await zero_copy_window::notice() {
  progress_.forget();
  unacknowledged_ = kernel::unacknowledged_bytes(to_.fd());
  released_ = 0;
  acknowledging_.begins(kernel::now_ns());
  return progress_.notified_within(acknowledging_.interval());
}

// A block may take a slow peer several intervals.
int zero_copy_window::noticed(bool came) {
  if (!came && !progress_.timed_out()) return ECANCELED;
  const std::size_t left = kernel::unacknowledged_bytes(to_.fd());
  const std::size_t acknowledged = unacknowledged_ > left ? unacknowledged_ - left : 0;
  const bool block_wanted = !came && to_.core().blocks().wanted();
  return acknowledging_.ended(std::max<std::uint64_t>(acknowledged, released_), !came, block_wanted,
                              kernel::now_ns());
}

task<int> zero_copy_window::finished(int failure) {
  while (free_.size() < depth_ && !is_past_waiting(failure)) {
    const bool came = co_await notice();
    if (free_.size() == depth_) break;
    const int waited = noticed(came);
    if (failure == 0 || waited == ECANCELED) failure = waited;
    if (waited != 0) break;
  }
  if (free_.size() == depth_) co_return failure;
  counters_.zero_copy_resets.add();
  kernel::reset_connection(to_.fd());
  progress_.forget();
  while (free_.size() < depth_) co_await progress_.notified_shielded();
  co_return failure;
}

}  // namespace sluice
