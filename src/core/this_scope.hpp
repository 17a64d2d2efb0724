// `scope* s = co_await this_scope{};` the scope of the task that the awaiting coroutine runs for.
#pragma once

#include <coroutine>

namespace sluice {

class scope;

struct this_scope {
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    found = awaiting.promise().task_scope();
    return false;
  }
  scope* await_resume() const noexcept { return found; }
  scope* found = nullptr;
};

}  // namespace sluice
