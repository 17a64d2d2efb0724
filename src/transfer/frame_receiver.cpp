// Framed receive: waits for memory and bytes on behalf of transfer/frame_assembler, which knows
// where bytes go and what frames they make. The waiting is one coroutine per receiver, made with
// it, that runs while somebody awaits next() and never otherwise. Between calls nothing is under
// way, but for the receive of mode multishot (transfer/armed_receive).
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <exception>
#include <utility>

#include "core/engine_core.hpp"
#include "kernel/clock.hpp"
#include "sluice/frames.hpp"
#include "transfer/armed_receive.hpp"
#include "transfer/frame_assembler.hpp"

namespace sluice {
namespace {

// The coroutine that waits; ops it awaits belong to the scope of whoever awaits next().
class pump {
 public:
  struct promise_type {
    scope* task_scope_ = nullptr;
    [[nodiscard]] scope* task_scope() const noexcept { return task_scope_; }
    pump get_return_object() noexcept {
      return pump(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
  explicit pump(std::coroutine_handle<promise_type> h) : handle_(h) {}
  pump(const pump&) = delete;
  pump& operator=(const pump&) = delete;
  ~pump() { handle_.destroy(); }

  void run(scope* task_scope) {
    handle_.promise().task_scope_ = task_scope;
    handle_.resume();
  }

 private:
  std::coroutine_handle<promise_type> handle_;
};

bool valid(const frame_protocol& p) {
  return p.parse != nullptr && p.head_bytes_min >= 1 && p.head_bytes_min <= p.head_bytes_max &&
         p.head_bytes_max <= 256 && std::has_single_bit(p.alignment) && p.alignment <= 4096;
}

// One that every next() refuses; only memory is made for it.
frame_protocol usable(const frame_protocol& p) { return valid(p) ? p : frame_protocol{}; }

}  // namespace

struct frame_receiver::state {
  state(engine_core& on, stream& source, const frame_protocol& protocol,
        const frame_options& options)
      : core(on),
        from(source),
        protocol_is_valid(valid(protocol)),
        wants_multishot(options.mode == frame_mode::multishot),
        assembler(usable(protocol), on.values().frames, options.mode, on.blocks().block_bytes()),
        idle(std::chrono::milliseconds(on.values().frames.idle_ms)),
        waits(wait()) {
    if (assembler.multishot() && on.provided() != nullptr) {
      armed = armed_receive::make(on);
    } else if (wants_multishot) {
      tell_finally(EOPNOTSUPP, "recv", "multishot: no ring here carries it");
    }
  }

  ~state() { count(); }

  // Never change.
  engine_core& core;
  stream& from;
  const bool protocol_is_valid;
  const bool wants_multishot;  // and nothing else will do
  // The stream.
  frame_assembler assembler;
  frame_assembler::step found = frame_assembler::step::bytes;  // by the last try_next
  result<frame> out;
  bool ended = false;   // by the peer, between two frames
  error failure;        // final
  frame_stats counted;  // the part of assembler.stats() that is in the engine's counters
  // The wait.
  std::chrono::nanoseconds idle;
  std::int64_t deadline_ns = 0;  // of the present next(), 0: none
  bool silent = false;           // the peer was, in the last wait, for `idle` or all of it
  bool spoken = false;           // bytes are there, and not received yet
  armed_receive::owner armed;    // in mode multishot
  bool by_hand = false;          // it found no buffer: the next receive is an ordinary one
  msghdr message{};
  std::coroutine_handle<> consumer;  // who awaits next()
  bool beginning = false;            // within frame_await::begin: the consumer need not be resumed
  bool told = false;                 // `out` is set
  pump waits;

  bool try_next();
  void tell(int code, const char* op);
  void tell_finally(int code, const char* op, const char* where);
  [[nodiscard]] std::chrono::nanoseconds left() const;
  [[nodiscard]] std::chrono::nanoseconds until_idle() const;
  [[nodiscard]] bool waits_without_memory() const;
  void heard_after(std::chrono::nanoseconds waited);
  [[nodiscard]] lease try_large_buffer();
  [[nodiscard]] lease try_buffer(bool small_will_do);
  void refuse(const error& e);
  [[nodiscard]] op_request request_for(const frame_assembler::receive_plan& plan);
  [[nodiscard]] bool absorb(std::uint64_t moved, const result<std::size_t>& got);
  enum class heard : std::uint8_t { bytes, nothing, no_buffer, verdict };
  [[nodiscard]] heard listen();
  [[nodiscard]] heard end_armed(const result<std::size_t>& how);
  [[nodiscard]] bool bear_silence();
  void count();
  pump wait();

  // Suspends the pump; whoever awaits next() goes on.
  struct hand_over {
    state& s;
    bool await_ready() noexcept { return false; }
    // The consumer may resume the pump, or end it with the receiver: nothing is touched afterwards.
    void await_suspend(std::coroutine_handle<>) noexcept {
      s.told = true;
      if (s.armed) s.armed->calm();
      if (!s.beginning) std::exchange(s.consumer, nullptr).resume();
    }
    void await_resume() noexcept {}
  };
};

// True: `out` says what next() yields.
bool frame_receiver::state::try_next() {
  if (!protocol_is_valid) {
    out = fail(EINVAL, "frame", "a protocol out of its ranges");
    return true;
  }
  found = assembler.next();
  if (found == frame_assembler::step::frame) {
    out = assembler.take();
    return true;
  }
  if (found == frame_assembler::step::failed) {
    tell_finally(assembler.failure().code, assembler.failure().op, assembler.failure().where);
    return true;
  }
  if (failure.code != 0) {
    out = std::unexpected(failure);
    return true;
  }
  if (ended) out = frame{};
  return ended;
}

void frame_receiver::state::tell(int code, const char* op) {
  out = fail(code, op, "frame_receiver");
}

void frame_receiver::state::tell_finally(int code, const char* op, const char* where) {
  failure = {code, op, where};
  out = std::unexpected(failure);
}

std::chrono::nanoseconds frame_receiver::state::left() const {
  if (deadline_ns == 0) return {};
  return std::chrono::nanoseconds(std::max<std::int64_t>(deadline_ns - kernel::now_ns(), 1));
}

std::chrono::nanoseconds frame_receiver::state::until_idle() const {
  return deadline_ns == 0 ? idle : std::min(idle, left());
}

// Whose small messages come rarely holds nothing while it waits for one, and so does whoever would
// hold one of the last quarter of the small blocks: these are for those whose peer has spoken. It
// costs a poll per message; to give a block back only after a while costs three operations more,
// and keeps others waiting for it.
bool frame_receiver::state::waits_without_memory() const {
  if (spoken || silent) return !spoken;
  const buffer_class& heads = core.heads();
  const std::size_t one_more = assembler.has_memory() ? 0 : 1;
  return !assembler.bulk() && heads.free_blocks() * 4 < heads.blocks() + 4 * one_more;
}

void frame_receiver::state::heard_after(std::chrono::nanoseconds waited) {
  spoken = true;
  silent = !assembler.bulk() && waited >= idle;
}

// Buffers never take the last half of the blocks: a receiver holds its buffer while it waits for a
// block, and buffers alone must not be able to use them up.
lease frame_receiver::state::try_large_buffer() {
  buffer_class& blocks = core.blocks();
  return blocks.free_blocks() * 2 > blocks.blocks() ? blocks.try_take() : lease{};
}

lease frame_receiver::state::try_buffer(bool small_will_do) {
  lease large = assembler.bulk() ? try_large_buffer() : lease{};
  return large || !small_will_do ? std::move(large) : core.heads().try_take();
}

op_request frame_receiver::state::request_for(const frame_assembler::receive_plan& plan) {
  op_request request;
  request.fd = from.fd();
  request.flags = plan.whole ? MSG_WAITALL : 0;
  if (plan.pieces.size() == 1) {
    request.kind = op_kind::recv;
    request.data = plan.pieces.front().iov_base;
    request.length = plan.pieces.front().iov_len;
    return request;
  }
  message = {};
  message.msg_iov = plan.pieces.data();
  message.msg_iovlen = plan.pieces.size();
  request.kind = op_kind::recvmsg;
  request.data = &message;
  return request;
}

// Takes what one receive gave. True when next() has something to say; false: go on.
bool frame_receiver::state::absorb(std::uint64_t moved, const result<std::size_t>& got) {
  assembler.received(moved);
  count();
  if (moved == 0 && got) {
    if (assembler.inside_frame()) {
      tell_finally(code::end_of_stream, "recv", "inside a frame");
    } else {
      ended = true;
      out = frame{};
    }
    return true;
  }
  if (got || got.error().code == ETIMEDOUT) return false;
  if (got.error().code == ECANCELED) {
    if (moved == 0) tell(ECANCELED, "recv");
    return moved == 0;
  }
  // What came before the fault is handed out first.
  failure = {got.error().code, "recv", "frame_receiver"};
  return false;
}

void frame_receiver::state::count() {
  tuning::frames_counters& counters = core.counters().frames;
  const frame_stats& now = assembler.stats();
  counters.frames.add(now.frames - counted.frames);
  counters.views.add(now.views - counted.views);
  counters.receives.add(now.receives - counted.receives);
  counters.bytes.add(now.bytes - counted.bytes);
  counters.copied_bytes.add(now.copied_bytes - counted.copied_bytes);
  counters.mispredicted.add(now.mispredicted - counted.mispredicted);
  counters.fallbacks.add(now.fallbacks - counted.fallbacks);
  counted = now;
}

// A wait for memory or for the peer that ended without either.
void frame_receiver::state::refuse(const error& e) {
  if (e.code == ETIMEDOUT || e.code == ECANCELED) {
    tell(e.code, e.op);
  } else {
    tell_finally(e.code, e.op, "frame_receiver");
  }
}

// In mode multishot, when bytes are lacking: takes what has come, or sees to it that something may.
frame_receiver::state::heard frame_receiver::state::listen() {
  assembler.keep();
  if (const std::span<std::byte> came = armed->next(); !came.empty()) {
    assembler.feed(came);
    count();
    silent = false;
    return heard::bytes;
  }
  if (const auto how = armed->ended()) return end_armed(*how);
  const int refusal = armed->arm(from.fd());
  if (refusal == ENOBUFS) return heard::no_buffer;
  if (silent) assembler.release();
  if (refusal == 0) return heard::nothing;
  if (!wants_multishot) {
    armed.reset();
    return heard::no_buffer;
  }
  tell_finally(refusal, "recv", "multishot");
  return heard::verdict;
}

// Ended by itself (ECANCELED: its user was slow) and with bytes, it is posted again. It has no
// deadline: an ETIMEDOUT is the socket's.
frame_receiver::state::heard frame_receiver::state::end_armed(const result<std::size_t>& how) {
  if (how && *how > 0) return heard::bytes;
  if (how) return absorb(0, how) ? heard::verdict : heard::bytes;
  const int code = how.error().code;
  if (code == ECANCELED) return heard::bytes;
  if (code == ENOBUFS) return heard::no_buffer;
  if (code == EINVAL && !wants_multishot) {  // before Linux 6.0
    armed.reset();
    return heard::no_buffer;
  }
  // Told by try_next.
  failure = {code == EINVAL ? EOPNOTSUPP : code, "recv", "frame_receiver"};
  return heard::bytes;
}

// A wait for the armed receive ended without it. True: `out` says why; false: go on.
bool frame_receiver::state::bear_silence() {
  if (!armed->timed_out()) {
    tell(ECANCELED, "recv");
    return true;
  }
  silent = true;
  core.counters().frames.released.add();
  if (deadline_ns == 0 || kernel::now_ns() < deadline_ns) return false;
  tell(ETIMEDOUT, "recv");
  return true;
}

// Runs while next() is awaited. Nobody waits for memory while he holds what others wait for: the
// assembler gives its block back before it lacks another, and so does who waits for a buffer.
pump frame_receiver::state::wait() {
  using memory = frame_assembler::memory;
  while (true) {
    if (try_next()) {
      co_await hand_over{*this};
      continue;
    }
    const bool block_first = found == frame_assembler::step::block;
    if (!block_first && armed && !by_hand) {
      const heard what = listen();
      by_hand = what == heard::no_buffer;
      if (what == heard::verdict) {
        co_await hand_over{*this};
      } else if (what == heard::nothing) {
        const bool spoke = co_await armed->heard_within(silent ? left() : until_idle());
        if (!spoke && bear_silence()) {
          assembler.release();
          co_await hand_over{*this};
        }
      }
      continue;
    }
    if (!block_first && waits_without_memory()) {
      assembler.release();
      const std::int64_t since_ns = kernel::now_ns();
      op_await speaking = from.wait_readable(left());
      const result<std::size_t> spoke = co_await speaking;
      if (spoke) {
        heard_after(std::chrono::nanoseconds(kernel::now_ns() - since_ns));
      } else {
        refuse(spoke.error());
        co_await hand_over{*this};
      }
      continue;
    }
    if (armed) armed->calm();
    const memory lacks = block_first ? memory::block : assembler.lacking();
    lease buffer = lacks == memory::buffer || lacks == memory::larger_buffer
                       ? try_buffer(lacks == memory::buffer)
                       : lease{};
    if (buffer) assembler.give_buffer(std::move(buffer));
    const bool needs_buffer = lacks == memory::buffer && !assembler.has_memory();
    if (lacks == memory::block || needs_buffer) {
      assembler.drop_block();
      buffer_class& from_class = needs_buffer ? core.heads() : core.blocks();
      lease_await leasing(from_class, core.loop(), left());
      result<lease> leased = co_await leasing;
      if (!leased) {
        refuse(leased.error());
        co_await hand_over{*this};
      } else if (needs_buffer) {
        assembler.give_buffer(std::move(*leased));
      } else {
        assembler.give_block(std::move(*leased));
      }
      continue;
    }
    op_await receiving(core.loop(), request_for(assembler.plan()), until_idle());
    const result<std::size_t> got = co_await receiving;
    spoken = false;
    by_hand = false;
    if (absorb(receiving.moved(), got)) {
      co_await hand_over{*this};
    } else if (receiving.moved() == 0 && !got && failure.code == 0) {
      silent = true;
      core.counters().frames.released.add();
    }
  }
}

frame_receiver::frame_receiver(engine& on, stream& from, const frame_protocol& protocol,
                               const frame_options& options)
    : state_(std::make_unique<state>(on.core(), from, protocol, options)) {}
frame_receiver::frame_receiver(frame_receiver&&) noexcept = default;
frame_receiver& frame_receiver::operator=(frame_receiver&&) noexcept = default;
frame_receiver::~frame_receiver() = default;

frame_await frame_receiver::next(std::chrono::nanoseconds timeout) { return {*state_, timeout}; }

const frame_stats& frame_receiver::stats() const { return state_->assembler.stats(); }

bool frame_await::await_ready() noexcept { return from_->try_next(); }

// False: it ended at once, the awaiting coroutine goes on.
bool frame_await::begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept {
  frame_receiver::state& s = *from_;
  s.consumer = awaiting;
  s.deadline_ns = timeout_.count() > 0 ? kernel::deadline_after(timeout_.count()) : 0;
  s.told = false;
  s.beginning = true;
  s.waits.run(task_scope);
  s.beginning = false;
  return !s.told;
}

result<frame> frame_await::await_resume() noexcept { return std::move(from_->out); }

}  // namespace sluice
