// Pipes that transfers splice through: few, shared, and never handed on with bytes in them, which
// would come out in another peer's transfer.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "kernel/pipe.hpp"
#include "ops/lists.hpp"
#include "sluice/result.hpp"
#include "tuning/counter_values.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

class loop;
class pipe_pool;

// Ownership of one empty pipe. Whatever state it is left in, dropping it is right: the pool closes
// a pipe that is not empty. Loop thread only; must not outlive the pool.
class pipe_lease {
 public:
  pipe_lease() = default;
  pipe_lease(pipe_pool* from, kernel::pipe taken) : from_(from), pipe_(std::move(taken)) {}
  pipe_lease(pipe_lease&& other) noexcept { swap(other); }
  pipe_lease& operator=(pipe_lease&& other) noexcept {
    pipe_lease taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~pipe_lease() { reset(); }

  void reset();  // gives the pipe back now
  explicit operator bool() const { return pipe_.has_value(); }
  const kernel::pipe& operator*() const { return *pipe_; }

 private:
  void swap(pipe_lease& other) noexcept {
    std::swap(from_, other.from_);
    std::swap(pipe_, other.pipe_);
  }
  pipe_pool* from_ = nullptr;
  std::optional<kernel::pipe> pipe_;
};

// Awaits a pipe; FIFO among those who wait. Yields ECANCELED instead, or ETIMEDOUT; where it was
// for want of a descriptor that it had to wait, or not one pipe can be made, EMFILE or ENFILE.
class [[nodiscard]] pipe_await {
 public:
  // Zero timeout: no limit.
  pipe_await(pipe_pool& from, std::chrono::nanoseconds timeout) : from_(&from), timeout_(timeout) {}
  [[nodiscard]] bool await_ready() noexcept;  // a free pipe is taken without suspending
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    begin(awaiting, awaiting.promise().task_scope());
  }
  result<pipe_lease> await_resume() noexcept;

 private:
  friend class pipe_pool;
  void begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept;
  op wait_;
  int shortage_ = 0;  // the pool's, when this began to wait
  result<pipe_lease> granted_ = fail(ECANCELED, "pipe", "waiting for a pipe");
  pipe_pool* from_;
  std::chrono::nanoseconds timeout_;
};

// Loop thread only. Outlives its leases. A pipe is made when first needed and kept; an empty one
// holds no pages.
class pipe_pool {
 public:
  // `per_user` is what kernel::pipes_per_user says: half of it is left to others.
  pipe_pool(const tuning::splice_knobs& settings, std::uint64_t per_user, loop& on,
            tuning::splice_counters& counters);
  pipe_pool(const pipe_pool&) = delete;
  pipe_pool& operator=(const pipe_pool&) = delete;
  ~pipe_pool();  // every lease must be back

  [[nodiscard]] pipe_await take(std::chrono::nanoseconds timeout = {}) { return {*this, timeout}; }
  // An idle pipe or a new one. Nothing: all are taken, and shortage() says why there are no more of
  // them. An error only when there is none to wait for.
  [[nodiscard]] std::optional<result<pipe_lease>> try_take();
  // Why the last try to take one made none: EMFILE, ENFILE or another errno of pipe2(2); 0 when it
  // did not come to that.
  [[nodiscard]] int shortage() const { return shortage_; }
  // Somebody waits for a pipe: whoever holds one should hurry.
  [[nodiscard]] bool wanted() const { return !waiters_.empty(); }
  [[nodiscard]] std::size_t pipes_max() const { return pipes_max_; }
  [[nodiscard]] std::size_t taken() const { return made_ - free_.size(); }

 private:
  friend class pipe_lease;
  friend class pipe_await;
  void give_back(kernel::pipe returned);
  void wait(pipe_await& waiter, scope* task_scope);

  const std::uint64_t pipe_bytes_;
  const std::size_t pipes_max_;
  loop& loop_;
  tuning::splice_counters& counters_;
  std::vector<kernel::pipe> free_;  // back: used last
  std::size_t made_ = 0;
  int shortage_ = 0;
  op_list waiters_;  // front: waits longest
};

}  // namespace sluice
