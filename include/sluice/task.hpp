// task<T>: a coroutine that runs on an engine's thread and yields one T. Lazy: it starts when it is
// awaited, or when engine::spawn or engine::start takes it.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "sluice/api.hpp"

namespace sluice {

class scope;

template <class T = void>
class task;

namespace detail {

// Memory of coroutine frames. Any thread; one that ended serves the next on the same thread, which
// keeps some of them. std::bad_alloc, which in a coroutine ends the program, when there is none.
[[nodiscard]] SLUICE_API void* allocate_frame(std::size_t bytes);
SLUICE_API void free_frame(void* frame, std::size_t bytes) noexcept;

struct frame_memory {
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept { free_frame(frame, bytes); }
};

// Shared by all promises. The scope is the one of the top-level task this coroutine runs for; ops
// started in it are cancelled with it.
class promise_base : public frame_memory {
 public:
  [[nodiscard]] scope* task_scope() const noexcept { return scope_; }
  void set_task_scope(scope* s) noexcept { scope_ = s; }
  void set_continuation(std::coroutine_handle<> h) noexcept { continuation_ = h; }

  std::suspend_always initial_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept {
    std::terminate();
  }  // flows report by result<T>

  struct final_awaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) noexcept {
      const promise_base& promise = ended.promise();
      return promise.continuation_ ? promise.continuation_ : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  final_awaiter final_suspend() noexcept { return {}; }

 private:
  std::coroutine_handle<> continuation_;
  scope* scope_ = nullptr;
};

template <class T>
class promise : public promise_base {
 public:
  task<T> get_return_object() noexcept;
  template <class U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class promise<void> : public promise_base {
 public:
  task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

// Move-only. Destroying a task that is suspended in an op is a programmer's error: cancel the
// top-level task and let the engine drain it.
template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::promise<T>;
  using handle = std::coroutine_handle<promise_type>;

  explicit task(handle h) noexcept : handle_(h) {}
  task(task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    if (this != &other) {
      destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~task() { destroy(); }

  // Runs the child at once, on this stack, until it suspends or ends. A child that ends without
  // suspending costs no suspension of the parent, so that a loop over such children cannot deepen
  // the stack even where the compiler makes no tail call.
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> parent) noexcept {
    handle_.promise().set_task_scope(parent.promise().task_scope());
    handle_.resume();
    if (handle_.done()) return false;
    handle_.promise().set_continuation(parent);
    return true;
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  void destroy() {
    if (handle_) handle_.destroy();
  }
  handle handle_;
};

namespace detail {
template <class T>
task<T> promise<T>::get_return_object() noexcept {
  return task<T>(std::coroutine_handle<promise<T>>::from_promise(*this));
}
inline task<void> promise<void>::get_return_object() noexcept {
  return task<void>(std::coroutine_handle<promise<void>>::from_promise(*this));
}
}  // namespace detail

}  // namespace sluice
