// Writes of leased blocks to one file, so many in flight behind the caller. With a check, each
// block is looked at on a worker first, in the order in which they were given:
//   unchecked  waits for its turn, or has it: one at a time, because a checksum is sequential
//   writing    has passed; any number at a time
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/waiter.hpp"
#include "sluice/body_check.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "storage/file_state.hpp"

namespace sluice {

// Where bytes go, and what they are.
struct write_place {
  std::uint64_t offset = 0;
  std::size_t padding = 0;  // zeroes behind them in the block, written too and shown to no check
  bool ends_body = false;   // they are the last: the check must pass the whole before
};

// Loop thread only. Must be drained before it is destroyed: its ops and leases are the kernel's
// until then.
class write_window {
 public:
  // `check` may be null and must outlive the window.
  write_window(file_state& file, std::size_t depth, scope* task_scope, body_check* check = nullptr);
  write_window(const write_window&) = delete;
  write_window& operator=(const write_window&) = delete;
  ~write_window();

  [[nodiscard]] bool has_room() const { return !free_.empty(); }
  // Writes the first `bytes` of the block; has_room() must hold.
  void write(lease block, std::size_t bytes, const write_place& place);
  // Writes `parts`, which lie in the block or outlive the window, one after the other.
  void write(lease block, std::span<const iovec> parts, const write_place& place);
  // There is nothing to write, but a check is to judge that too.
  void end_empty_body() { write({}, std::span<const iovec>(), {.ends_body = true}); }

  // For the writes to come: RWF_* of pwritev2(2).
  void use_flags(std::uint32_t flags) { flags_ = flags; }

  // When !has_room(): until it has. False: the task was cancelled.
  [[nodiscard]] waiter::wait_await room() {
    progress_.forget();
    return progress_.notified();
  }
  // Until no check and no write is under way, whatever their results; a cancelled task waits all
  // the same.
  [[nodiscard]] task<result<void>> drained();

  // Of the first write that failed or check that refused, 0 while none has.
  [[nodiscard]] int failure() const { return failure_.code; }
  [[nodiscard]] std::uint64_t bytes_written() const { return bytes_written_; }
  // Writes as the kernel was given them, those under way not included; and how many of them were
  // continued. No checks.
  [[nodiscard]] std::uint64_t ops() const { return ops_; }
  [[nodiscard]] std::uint64_t short_ops() const { return short_ops_; }

 private:
  struct slot {
    op work;  // the check, then the write
    lease block;
    std::vector<iovec> parts;  // what a check sees, and what writev takes
    op_request write;
    bool ends_body = false;
    result<void> verdict;  // of the check; written by the worker, read once `work` has ended
    write_window* window = nullptr;
  };
  slot& take_slot(lease block);
  void begin(slot& s, const op_request& write, const write_place& place);
  void begin_check(slot& s);
  void begin_write(slot& s);
  void give_back(slot& s);
  void drop_unchecked();
  void fail_with(const error& why);
  static std::int64_t judge(void* subject);
  static void checked(op& o) noexcept;
  static void written(op& o) noexcept;

  file_state& file_;
  scope* scope_;
  body_check* const check_;
  const std::size_t depth_;
  const bool in_memory_;  // the file has no disk behind it
  std::uint32_t flags_ = 0;
  std::unique_ptr<slot[]> slots_;
  std::vector<slot*> free_;
  std::vector<slot*> unchecked_;  // oldest first; that one is being checked
  waiter progress_;
  error failure_;
  std::uint64_t bytes_written_ = 0;
  std::uint64_t ops_ = 0;
  std::uint64_t short_ops_ = 0;
};

}  // namespace sluice
