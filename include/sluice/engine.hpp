// The engine: one ring (or its fallback), one thread, one loop.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/api.hpp"
#include "sluice/counters.hpp"
#include "sluice/knobs.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"
#include "sluice/scope.hpp"
#include "sluice/task.hpp"

namespace sluice {

class buffer_class;
class engine_core;

enum class log_level : std::uint8_t {
  info,
  warning,
  fatal,  // the ring is lost or the engine was run by a second thread: the process aborts next
};
// Told about what an operator may want to know (a smaller ring than asked for, memory left
// unregistered). Called on the thread that creates or runs the engine; must not call back into it.
using log_callback = std::function<void(log_level, std::string_view)>;

// Told the device (st_dev of stat(2)) of a filesystem: engine::on_suspect.
using suspect_callback = std::function<void(std::uint64_t device)>;

// One row of the capability table: what the engine found by trying, and the reason when it is
// absent.
struct capability {
  std::string name;
  bool present = false;
  std::string reason;
};

// Names a top-level task; stays valid as a name after the task has ended.
struct task_handle {
  std::uint64_t id = 0;
};

namespace detail {

// The coroutine that carries a top-level task; it owns the scope and frees itself at the end.
struct root_task {
  struct promise_type : frame_memory {
    scope task_scope_;
    [[nodiscard]] scope* task_scope() noexcept { return &task_scope_; }
    root_task get_return_object() noexcept {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;
};

template <class T, class Callback>
root_task carry(task<T> work, Callback callback) {
  if constexpr (std::is_void_v<T>) {
    co_await work;
    callback();
  } else {
    callback(co_await work);
  }
}

}  // namespace detail

// Awaits a block of the buffer pool; FIFO among those who wait. Yields ECANCELED or ETIMEDOUT
// instead of a lease.
class [[nodiscard]] SLUICE_API lease_await {
 public:
  lease_await(buffer_class& from, loop& on, std::chrono::nanoseconds timeout);
  [[nodiscard]] bool await_ready() noexcept;  // a free block is taken without suspending
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    begin(awaiting, awaiting.promise().task_scope());
  }
  result<lease> await_resume() noexcept;

 private:
  void begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept;
  friend class buffer_class;
  op wait_;
  lease granted_;
  buffer_class* from_;
  loop* loop_;
  std::chrono::nanoseconds timeout_;
};

// Movable, not copyable. Any thread may create it and start its first tasks. The first call of run,
// run_once, process or poll_fd makes it that thread's: from then on everything but post, stop and
// counters is for that thread alone, and so is the destructor unless nothing is left to drain
// (task_count() == 0 after run()). A ring belongs to one thread (IORING_SETUP_SINGLE_ISSUER): run
// by a second one, the engine says so through the log callback and aborts.
class SLUICE_API engine {
 public:
  // Starts with a ring, or with the thread pool where io_uring is missing or forbidden; fails for
  // lack of io_uring only when sluice.backend=ring. Other errors: ENOMEM (arena), EMFILE.
  static result<engine> create(const knobs& settings = {}, log_callback log = {});
  engine(engine&&) noexcept;
  engine& operator=(engine&&) noexcept;
  ~engine();  // cancels every task and drains it

  // Runs a task to its end, beginning at once on this thread; the handle cancels it.
  template <class T>
  task_handle spawn(task<T> work) {
    return start(std::move(work), [](auto&&...) {});
  }
  // As spawn, and gives the task's value to `callback` on the engine's thread. One allocation per
  // task.
  template <class T, class Callback>
  task_handle start(task<T> work, Callback callback) {
    return adopt(detail::carry(std::move(work), std::move(callback)));
  }
  // Cancels the ops of one task; it ends once they have. An ended task is ignored.
  void cancel(task_handle which);
  void cancel_all();
  [[nodiscard]] std::size_t task_count() const;

  // Until no task is left and every file dropped meanwhile is closed, its temporary name gone; or
  // until stop().
  void run();
  void run_once(
      std::chrono::nanoseconds timeout);  // one turn: waits at most `timeout` (negative: no limit)
  void stop();                            // run() returns after the present turn; any thread

  // The engine as a guest of another loop: wait until poll_fd is readable (level-triggered), then
  // process. The descriptor also becomes readable for timers, for work left over, and for whatever
  // the host does to the engine between two calls: tasks begun and cancelled, leases and files
  // dropped, coroutines resumed that await an op. -errno when it cannot be made.
  [[nodiscard]] int poll_fd();
  // Never waits; runs at most `budget` completions; returns how many it ran.
  std::size_t process(std::size_t budget);

  // Runs `work` on the engine's thread in its next turn. Any thread.
  void post(std::move_only_function<void()> work);

  [[nodiscard]] op_await sleep_for(
      std::chrono::nanoseconds duration);  // ETIMEDOUT never: a sleep that ends is success
  [[nodiscard]] op_await wait_readable(
      int fd, std::chrono::nanoseconds timeout = {});  // the poll(2) events
  // Runs function(context) on a worker thread; the result is what it returns: >= 0 or -errno.
  [[nodiscard]] op_await run_on_worker(std::int64_t (*function)(void*), void* context);

  // How many wait_readable, of the engine and of its streams, are under way at a time; one more
  // begins when another has ended. A server closes idle connections in time to stay below it. Seven
  // eighths of the ring's completion queue as it was made, which RLIMIT_MEMLOCK may have kept
  // smaller than sluice.ring.completion_entries; SIZE_MAX (no limit) without a ring.
  [[nodiscard]] std::size_t waits_max() const;
  // A block of sluice.memory.block_bytes, or of sluice.memory.head_bytes. timeout 0: no limit.
  [[nodiscard]] lease_await acquire_block(std::chrono::nanoseconds timeout = {});
  [[nodiscard]] lease_await acquire_head(std::chrono::nanoseconds timeout = {});

  [[nodiscard]] const knobs& settings() const;
  result<void> set_knob(std::string_view name,
                        std::string_view value);  // live knobs only: code::start_only
  // Publishes again on every filesystem on which a sync had failed, once somebody has looked at the
  // disk; how many there were. What sluice.commit.on_failure=fail_engine ended stays ended.
  std::size_t clear_suspects();
  // Told of every failed sync of this engine on which filesystem it was; empty: nobody is. The
  // kernel may tell the error to this sync alone (kernel-notes/failed_sync_is_told_once.md), so a
  // process with several engines connects each to all others, which must outlive it or be taken
  // out before:
  //   a.on_suspect([&b](std::uint64_t device) {
  //     b.post([&b, device] { b.add_suspect(device); });
  //   });
  // A sync of another engine that says yes before that one has heard is believed. And syncs of one
  // directory take turns within an engine only: on ext4 without a journal, that of another engine
  // may say yes while the first is still writing the block that both have changed.
  // Called on the engine's thread, before those who waited for the sync are told, until another one
  // is set or the engine is destroyed. Must not wait, throw, nor call this engine but for post and
  // stop.
  void on_suspect(suspect_callback told);
  // As if a sync of this engine had failed on that filesystem: refused as after one of its own
  // (sluice.commit.on_failure), and commits, durable publishes and directory::sync that are under
  // way there, or whose directory was opened before, are code::durability_unknown. The callback of
  // on_suspect is not called.
  void add_suspect(std::uint64_t device);
  [[nodiscard]] counter_snapshot counters() const;      // any thread
  [[nodiscard]] std::string_view backend_name() const;  // "ring" or "pool"
  [[nodiscard]] std::vector<capability> capabilities() const;

  [[nodiscard]] engine_core& core() { return *core_; }

 private:
  explicit engine(std::unique_ptr<engine_core> core);
  task_handle adopt(detail::root_task root);
  std::unique_ptr<engine_core> core_;
};

}  // namespace sluice
