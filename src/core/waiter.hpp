// One coroutine that waits until another part of the engine notifies it: a parked op and a flag.
#pragma once

#include <cerrno>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <utility>

#include "backend/loop.hpp"
#include "kernel/clock.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"

namespace sluice {

// Loop thread only. At most one coroutine waits. A notification that comes first is kept.
class waiter {
 public:
  explicit waiter(loop& on) : loop_(on) {}

  void notify() {
    if (parked_.state() == op_state::in_flight) {
      loop_.answer_parked(parked_, 0);
    } else {
      notified_ = true;
    }
  }
  void forget() { notified_ = false; }

  struct wait_await {
    bool await_ready() const noexcept {
      if (!std::exchange(on.notified_, false)) return false;
      on.parked_.result = 0;  // not what an earlier wait came to
      return true;
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
      on.parked_.request.kind = op_kind::park;
      on.parked_.deadline_ns = timeout_ns > 0 ? kernel::deadline_after(timeout_ns) : 0;
      on.parked_.context = awaiting.address();
      on.parked_.complete = [](op& o) noexcept {
        std::coroutine_handle<>::from_address(o.context).resume();
      };
      on.loop_.start(on.parked_, cancellable ? awaiting.promise().task_scope() : nullptr);
    }
    // False: cancelled, or timed out.
    bool await_resume() const noexcept { return on.parked_.outcome() >= 0; }
    waiter& on;
    bool cancellable;
    std::int64_t timeout_ns = 0;
  };
  [[nodiscard]] wait_await notified() { return {*this, true}; }
  // Zero: no limit.
  [[nodiscard]] wait_await notified_within(std::chrono::nanoseconds timeout) {
    return {*this, true, timeout.count()};
  }
  // Of the last wait that said false.
  [[nodiscard]] bool timed_out() const { return parked_.outcome() == -ETIMEDOUT; }
  // For draining: what the kernel still owns is waited for, cancelled or not.
  [[nodiscard]] wait_await notified_shielded() { return {*this, false}; }

 private:
  loop& loop_;
  op parked_;
  bool notified_ = false;
};

}  // namespace sluice
