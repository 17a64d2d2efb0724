// Writes of leased blocks to one file, so many in flight behind the caller.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/waiter.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "storage/file_state.hpp"

namespace sluice {

// Loop thread only. Must be drained before it is destroyed: its ops and leases are the kernel's
// until then.
class write_window {
 public:
  write_window(file_state& file, std::size_t depth, scope* task_scope);
  write_window(const write_window&) = delete;
  write_window& operator=(const write_window&) = delete;
  ~write_window();

  [[nodiscard]] bool has_room() const { return !free_.empty(); }
  // Writes the first `bytes` of the block at `offset`; has_room() must hold.
  void write(lease block, std::size_t bytes, std::uint64_t offset);
  // Writes `parts`, which lie in the block or outlive the window, one after the other at `offset`.
  void write(lease block, std::span<const iovec> parts, std::uint64_t offset);

  // When !has_room(): until it has. False: the task was cancelled.
  [[nodiscard]] waiter::wait_await room() {
    progress_.forget();
    return progress_.notified();
  }
  // Until no write is under way, whatever their results; a cancelled task waits all the same.
  [[nodiscard]] task<result<void>> drained();

  // Of the first write that failed, 0 while none has.
  [[nodiscard]] int failure() const { return failure_; }
  [[nodiscard]] std::uint64_t bytes_written() const { return bytes_written_; }
  [[nodiscard]] std::uint64_t ops() const { return ops_; }

 private:
  struct slot {
    op write;
    lease block;
    std::vector<iovec> parts;
    write_window* window = nullptr;
  };
  slot& take_slot(lease block);
  void begin(slot& s, op_request request);
  static void written(op& o) noexcept;

  file_state& file_;
  scope* scope_;
  const std::size_t depth_;
  std::unique_ptr<slot[]> slots_;
  std::vector<slot*> free_;
  waiter progress_;
  int failure_ = 0;
  std::uint64_t bytes_written_ = 0;
  std::uint64_t ops_ = 0;
};

}  // namespace sluice
