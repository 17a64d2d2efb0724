// A look at a file as it is now, without the loop waiting for whoever has to be asked.
#pragma once

#include <coroutine>

#include "backend/loop.hpp"
#include "core/engine_core.hpp"
#include "kernel/file_info.hpp"
#include "sluice/result.hpp"

namespace sluice {

struct file_look {
  kernel::inode_info inode;
  kernel::filesystem_kind on;
};

// Awaits a look: there at once where the filesystem is known to answer from memory, else by a
// worker that asks it. The descriptor stays open until then. Allocates nothing.
class [[nodiscard]] look_await {
 public:
  look_await(engine_core& core, int fd);
  look_await(const look_await&) = delete;
  look_await& operator=(const look_await&) = delete;

  [[nodiscard]] bool await_ready() const noexcept { return ready_; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    work_.context = awaiting.address();
    work_.complete = [](op& o) noexcept {
      std::coroutine_handle<>::from_address(o.context).resume();
    };
    begin(awaiting.promise().task_scope());
  }
  // Errors of statx(2); ECANCELED.
  [[nodiscard]] result<file_look> await_resume();

 private:
  void begin(scope* task_scope) noexcept;
  static std::int64_t ask(void* look);
  engine_core& core_;
  const int fd_;
  result<file_look> seen_;
  bool ready_ = false;
  op work_;
};

// Whether the filesystem of the file is known; else a look makes it so.
[[nodiscard]] bool is_known(engine_core& core, const kernel::inode_info& of);

// On a worker, what a look sees.
[[nodiscard]] result<file_look> look_now(int fd);

}  // namespace sluice
