// Blocks on their way to a peer without a copy: the kernel sends from their memory, and says by a
// notification of its own when it needs that no more. Two answers for each block:
//   sent    the socket has taken so many bytes: the next block may follow
//   notice  the peer has acknowledged them, or the kernel copied them: the lease goes back
// A peer that acknowledges nothing keeps the memory for as long as it likes, and neither
// shutdown(2) nor close(2) changes that; a reset does
// (kernel-notes/zero_copy_send_answers_twice.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/waiter.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"
#include "transfer/stall_watch.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

// What comes behind the bytes of one send: MSG_MORE.
enum class follows : std::uint8_t { nothing, more };

// Loop thread only. Must be finished before it is destroyed: blocks are the kernel's until then.
class zero_copy_window {
 public:
  // At most `depth` blocks without their notice. `refused` is what a peer for whom the kernel knows
  // no sends without a copy makes of the transfer; 0: it is sent plainly. `limits` are for what the
  // peer acknowledges while a notice is waited for.
  zero_copy_window(stream& to, std::size_t depth, scope* task_scope, int refused,
                   const stall_limits& limits);
  zero_copy_window(const zero_copy_window&) = delete;
  zero_copy_window& operator=(const zero_copy_window&) = delete;
  ~zero_copy_window();

  [[nodiscard]] bool has_room() const { return !free_.empty(); }
  // Begins to send `bytes`, which lie in `block`, a registered one; one send at a time.
  void send(lease block, std::span<const std::byte> bytes, follows then, const op_pace& taker);
  // Until the socket has taken them or not; a cancel ends the send, which then says so.
  [[nodiscard]] bool is_sending() const { return sending_ != nullptr; }
  [[nodiscard]] waiter::wait_await sent() {
    progress_.forget();
    return progress_.notified_shielded();
  }
  // Of the last send: how many bytes the socket took, and why the transfer ends, or 0.
  [[nodiscard]] std::size_t moved() const { return moved_; }
  [[nodiscard]] int verdict(op_pace& taker, bool block_wanted, follows then);

  // Until a notice has come, or an interval is over. Then noticed() says what that means: 0 go on,
  // else why the transfer ends.
  [[nodiscard]] waiter::wait_await notice();
  [[nodiscard]] int noticed(bool came);

  // Waits for every notice, in the end by a reset of the connection: at once when the transfer has
  // failed for the peer's sake or was cancelled, else once the peer acknowledges nothing or too
  // little. `failure` as it was, or why it came to that.
  [[nodiscard]] task<int> finished(int failure);

  [[nodiscard]] std::uint64_t zero_copy_bytes() const { return zero_copy_bytes_; }
  // Sends as the kernel was given them, those whose memory it still has not included.
  [[nodiscard]] std::uint64_t ops() const { return ops_; }

 private:
  struct slot {
    op send;
    lease block;
    zero_copy_window* window = nullptr;
  };
  static void answered_early(op& o) noexcept;
  static void ended(op& o) noexcept;
  void answer(const slot& of, std::int64_t outcome);
  void give_up();

  stream& to_;
  loop& loop_;
  tuning::send_counters& counters_;
  scope* scope_;
  const std::size_t depth_;
  const int refused_;
  std::unique_ptr<slot[]> slots_;
  std::vector<slot*> free_;
  waiter progress_;
  slot* sending_ = nullptr;  // has not got its first answer
  std::int64_t outcome_ = 0;
  std::int64_t begun_ns_ = 0;
  std::size_t wanted_ = 0;
  std::size_t moved_ = 0;
  op_pace acknowledging_;           // what is acknowledged in waits for a notice
  std::size_t unacknowledged_ = 0;  // when that wait began
  std::uint64_t released_ = 0;      // in it, by notices: a copied block's says nothing of its peer
  std::uint64_t zero_copy_bytes_ = 0;
  std::uint64_t ops_ = 0;
};

}  // namespace sluice
