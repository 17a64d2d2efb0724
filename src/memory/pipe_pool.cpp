#include "memory/pipe_pool.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "backend/loop.hpp"
#include "kernel/clock.hpp"

namespace sluice {

void pipe_lease::reset() {
  if (!pipe_) return;
  kernel::pipe returned = std::move(*pipe_);
  pipe_.reset();
  from_->give_back(std::move(returned));
}

bool pipe_await::await_ready() noexcept {
  std::optional<result<pipe_lease>> taken = from_->try_take();
  if (!taken) {
    shortage_ = from_->shortage();
    return false;
  }
  granted_ = std::move(*taken);
  return true;
}

void pipe_await::begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept {
  wait_.request.kind = op_kind::park;
  wait_.request.data = this;
  wait_.context = awaiting.address();
  wait_.complete = [](op& o) noexcept {
    std::coroutine_handle<>::from_address(o.context).resume();
  };
  if (timeout_.count() > 0) wait_.deadline_ns = kernel::deadline_after(timeout_.count());
  from_->wait(*this, task_scope);
}

result<pipe_lease> pipe_await::await_resume() noexcept {
  if (!granted_ && wait_.outcome() == -ETIMEDOUT)
    return fail(shortage_ != 0 ? shortage_ : ETIMEDOUT, "pipe", "waiting for a pipe");
  return std::move(granted_);
}

pipe_pool::pipe_pool(const tuning::splice_knobs& settings, std::uint64_t per_user, loop& on,
                     tuning::splice_counters& counters)
    : pipe_bytes_(settings.pipe_bytes),
      pipes_max_(
          static_cast<std::size_t>(std::clamp<std::uint64_t>(per_user / 2, 1, settings.pipes_max))),
      loop_(on),
      counters_(counters) {
  free_.reserve(pipes_max_);  // a pipe given back never allocates
}

pipe_pool::~pipe_pool() {
  assert(taken() == 0 && waiters_.empty());
  counters_.pipes.set(0);
}

std::optional<result<pipe_lease>> pipe_pool::try_take() {
  shortage_ = 0;
  if (!free_.empty()) {
    pipe_lease taken(this, std::move(free_.back()));
    free_.pop_back();
    counters_.pipes_taken.add();
    return result<pipe_lease>(std::move(taken));
  }
  if (made_ == pipes_max_) return std::nullopt;
  result<kernel::pipe> made = kernel::pipe::make(pipe_bytes_);
  if (!made) {
    shortage_ = made.error().code;
    // Those that are taken come back.
    if (made_ > 0) return std::nullopt;
    return result<pipe_lease>(std::unexpected(made.error()));
  }
  counters_.pipes.set(++made_);
  counters_.pipes_taken.add();
  return result<pipe_lease>(pipe_lease(this, std::move(*made)));
}

void pipe_pool::give_back(kernel::pipe returned) {
  if (returned.is_empty()) {
    free_.push_back(std::move(returned));
  } else {
    const kernel::pipe closed = std::move(returned);
    counters_.pipes_dropped.add();
    counters_.pipes.set(--made_);
  }
  // After a dropped pipe this makes a new one. When that fails, and no pipe is left whose return
  // could serve them, all who wait are told.
  while (!waiters_.empty()) {
    std::optional<result<pipe_lease>> next = try_take();
    if (!next) return;
    op& longest = waiters_.front();
    static_cast<pipe_await*>(longest.request.data)->granted_ = std::move(*next);
    loop_.answer_parked(longest, 0);
  }
}

void pipe_pool::wait(pipe_await& waiter, scope* task_scope) {
  counters_.pipes_waited.add();
  loop_.start(waiter.wait_, task_scope);
  // Else refused: cancelled.
  if (waiter.wait_.state() == op_state::in_flight) waiters_.push_back(waiter.wait_);
}

}  // namespace sluice
