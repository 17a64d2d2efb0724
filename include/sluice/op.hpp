// One kernel operation: what to do, where it stands, who is told. Embedded in its caller; never
// allocated by sluice.
#pragma once

#include <boost/intrusive/link_mode.hpp>
#include <boost/intrusive/list_hook.hpp>
#include <boost/intrusive/set_hook.hpp>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "sluice/api.hpp"
#include "sluice/result.hpp"

namespace sluice {

class loop;
class scope;

// The kinds of operation, one row each in src/ops/table.cpp. Names are io_uring's where it has one.
enum class op_kind : std::uint8_t {
  accept,
  connect,
  recv,
  recv_multishot,  // answers again and again, each time with provided buffers; by the ring alone
  send,
  recvmsg,
  sendmsg,
  send_zc,  // answers twice: its result, and later that the kernel reads the memory no more
  read,
  write,
  readv,
  writev,
  read_fixed,
  write_fixed,
  writev_fixed,
  splice,
  sendfile,
  copy_file_range,
  openat2,
  close,
  fsync,
  fallocate,
  ftruncate,
  statx,
  renameat2,
  linkat,
  unlinkat,
  mkdirat,
  poll,
  shutdown,
  syncfs,
  call,     // a function of the caller, run on a worker thread: what no kernel ring can do
  timeout,  // a timer of the loop; no backend sees it
  park,     // waits for another part of the engine (a lease, a free slot); no backend sees it
};
inline constexpr std::size_t op_kind_count = static_cast<std::size_t>(op_kind::park) + 1;

// Who performs an op that several could.
enum class op_route : std::uint8_t {
  automatic,    // the ring where it can, else whoever its row names
  ring_thread,  // as automatic, but the ring hands it to a thread of its own untried
  worker,       // a thread of the worker pool
  loop_thread,  // the loop itself, at once: only for what waits for no disk and no peer
};

// In place of an offset: the descriptor has none (a pipe, a socket).
inline constexpr std::uint64_t op_no_offset = ~std::uint64_t{0};

// What an op asks for. Which fields a kind reads is said at its row in src/ops/table.cpp; whatever
// they point to must live until the op has ended.
struct op_request {
  op_kind kind = op_kind::park;
  // The registered buffer of *_fixed and send_zc; the group of provided ones of recv_multishot.
  std::uint16_t buffer_index = 0;
  std::uint32_t flags = 0;  // the flags word of the system call of that name
  int fd = -1;
  int fd2 = -1;
  void* data = nullptr;  // buffer, iovec array, msghdr, sockaddr, open_how or statx
  const char* path = nullptr;
  const char* path2 = nullptr;
  std::uint64_t offset = 0;
  std::uint64_t offset2 = 0;  // in fd2
  std::uint64_t length = 0;
  std::int64_t (*function)(void*) = nullptr;  // call: run with `data`; >= 0, or -errno
  op_route route = op_route::automatic;
  bool accept_short = false;  // a count below `length` is the result, not to be continued
  bool accept_again = false;  // EAGAIN is the result, not to be tried again
  bool bundle = false;        // recv_multishot: an answer may bring several buffers
  bool to_own_pipe = false;   // splice: `fd` is a pipe with a reader for sure, so no SIGPIPE comes
};

// Where an op stands. Each line: what has happened; who moves it on, with which function; what
// `link` is on.
enum class op_state : std::uint8_t {
  idle,        // not started, or told its result; the owner, by loop::start; on no list
  staged,      // started; the loop, which hands it to the backend in its next turn or once there is
               // room; one of the loop's lists
  in_flight,   // the kernel, a worker or a waker has it; whoever answers it; on that party's list,
               // or none. send_zc: also between its two answers
  cancelling,  // as in_flight, and asked to end soon; the same party
  harvested,   // the final result is known; the loop, which runs `complete`; the loop's ready list
};

// Loop thread only. An op must stay where it is from start to completion.
class op {
 public:
  using link_hook = boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;
  using timer_hook =
      boost::intrusive::set_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

  op() = default;
  explicit op(const op_request& wanted) : request(wanted) {}
  op(const op&) = delete;
  op& operator=(const op&) = delete;
  SLUICE_API ~op();  // aborts unless idle: nothing is freed that the kernel still owns

  [[nodiscard]] op_state state() const { return state_; }
  // The terminal result: >= 0 as the system call says (bytes, a descriptor), or -errno.
  // When it failed, `done` tells how many bytes had moved before.
  [[nodiscard]] std::int64_t outcome() const { return result; }

  // Set by the owner while idle.
  op_request request;
  void (*complete)(op&) noexcept = nullptr;  // told once, by the loop, outside the completion queue
  void* context = nullptr;                   // the owner's
  // send_zc only, may be null: `result` is known and the kernel still reads the memory; `complete`
  // follows. Not called when both answers come at once. Called while answers are sorted out: it may
  // take note and wake others, no more.
  void (*sent)(op&) noexcept = nullptr;
  // recv_multishot only: so many bytes came, into provided buffers of which this is the first.
  // `complete` tells how it ended, with a result that was received before. As `sent`, no more than
  // take note and wake others.
  void (*received)(op&, std::uint32_t bytes, std::uint16_t first_buffer) noexcept = nullptr;
  std::int64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0 none; past it the op ends with ETIMEDOUT

  // Written by the loop and by the party that answers.
  std::int64_t result = 0;
  std::uint64_t done = 0;    // bytes moved by the rounds before the last
  std::uint32_t rounds = 0;  // times that the backend was given it: to repeat it, to continue it
  std::uint32_t short_rounds = 0;  // of them, those that moved a part and were continued
  int cancel_reason = 0;           // the errno that a cancelled op ends with; 0 while not cancelled
  std::uint16_t retries = 0;       // rounds of EINTR and EAGAIN so far
  bool on_worker = false;          // in_flight at the worker pool, not at the ring or epoll
  bool holds_memory = false;       // send_zc: between its two answers
  bool copied = false;             // send_zc: the kernel copied the bytes after all

  link_hook link;        // its list follows from the state
  link_hook scope_link;  // the scope's list, from start to completion
  timer_hook timer;      // the loop's timers, while a deadline is set

 private:
  friend class loop;
  friend void set_state(op& o, op_state next);
  op_state state_ = op_state::idle;
};

// Starts `o` in `task_scope` (may be null: nothing cancels it). Loop thread; `o` must be idle.
SLUICE_API void start(loop& on, op& o, scope* task_scope);

// Awaits one op in a coroutine. The result is bytes or a descriptor; errors are errno values,
// ECANCELED after a cancel and ETIMEDOUT after the timeout. No allocation: the op lives in the
// awaiting frame.
class [[nodiscard]] op_await {
 public:
  op_await(loop& on, const op_request& request, std::chrono::nanoseconds timeout = {})
      : op_(request), loop_(&on), timeout_(timeout) {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    begin(awaiting, awaiting.promise().task_scope());
  }
  SLUICE_API result<std::size_t> await_resume() const noexcept;
  // Bytes moved, also by an op that failed on the way. To ask, keep the op_await in a variable of
  // its own.
  [[nodiscard]] std::uint64_t moved() const {
    return op_.result >= 0 ? static_cast<std::uint64_t>(op_.result) : op_.done;
  }
  [[nodiscard]] const op& awaited() const { return op_; }  // once it has ended, to ask further

 private:
  SLUICE_API void begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept;
  op op_;
  loop* loop_;
  std::chrono::nanoseconds timeout_;
};

}  // namespace sluice
