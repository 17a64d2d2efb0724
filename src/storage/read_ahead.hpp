// Reads a range of a file block by block, so many ahead of the caller, and hands the blocks out in
// order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/waiter.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "sluice/transfer.hpp"
#include "storage/file_state.hpp"

namespace sluice {

struct read_range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t unit = 1;  // reads begin and end on multiples of it: the O_DIRECT alignment, else 1
  std::uint32_t flags = 0;  // RWF_* of preadv2(2)
};

// Loop thread only. Must be drained before it is destroyed.
class read_ahead {
 public:
  read_ahead(file_state& file, const read_range& range, std::size_t depth, scope* task_scope);
  read_ahead(const read_ahead&) = delete;
  read_ahead& operator=(const read_ahead&) = delete;
  ~read_ahead();

  [[nodiscard]] bool finished() const { return handed_ == range_.length; }
  // Whether the next block needs a lease that the caller must give: none is free for reading ahead.
  [[nodiscard]] bool needs_lease() const { return begun_ == taken_ && !finished(); }
  // Begins the next read with this block, and further ones with blocks that are free, as deep as
  // allowed.
  void begin(lease block);
  void begin_more();
  // When the oldest read is still under way: until it has ended. False: cancelled.
  [[nodiscard]] bool next_is_ready() const;
  [[nodiscard]] waiter::wait_await next_ready() {
    progress_.forget();
    return progress_.notified();
  }
  // The bytes of the range in the oldest block; they stay valid until the next pop or give_back. An
  // empty span: see failure().
  [[nodiscard]] std::span<const std::byte> pop();
  // Gives the block handed out last back before the next pop does: who waits for a lease must hold
  // none, or senders that share few blocks wait for each other.
  void give_back() {
    if (taken_ > 0) at(taken_ - 1).block.reset();
  }
  // Of the block handed out last: where it is registered, or -1.
  [[nodiscard]] std::int32_t buffer_index() const {
    return taken_ == 0 ? -1 : slots_[(taken_ - 1) % depth_].block.buffer_index();
  }
  // One more lease of the block handed out last, for as long as the kernel sends from it.
  [[nodiscard]] lease share() {
    const slot& s = at(taken_ - 1);
    return s.block.part(0, s.block.size());
  }
  // Until no read is under way.
  [[nodiscard]] task<void> drained();

  // errno of the read that failed, code::end_of_stream when the file was shorter than the range.
  [[nodiscard]] int failure() const { return failure_; }
  // Reads as the kernel was given them, those under way not included; and how many of them were
  // continued.
  [[nodiscard]] std::uint64_t ops() const { return ops_; }
  [[nodiscard]] std::uint64_t short_ops() const { return short_ops_; }

 private:
  struct slot {
    op read;
    lease block;
    read_ahead* owner = nullptr;
    std::size_t skip = 0;    // bytes in front of the range, for alignment
    std::size_t wanted = 0;  // bytes of the range
    std::size_t read_bytes = 0;
  };
  slot& at(std::uint64_t index) { return slots_[index % depth_]; }
  static void ended(op& o) noexcept;
  void read_rest(slot& s);

  file_state& file_;
  const read_range range_;
  scope* scope_;
  const std::size_t depth_;
  std::unique_ptr<slot[]> slots_;
  waiter progress_;
  std::uint64_t next_offset_;
  std::uint64_t asked_ = 0;   // bytes of the range that reads were begun for
  std::uint64_t handed_ = 0;  // bytes of the range given to the caller
  std::uint64_t begun_ = 0;   // reads begun; each uses slot `number % depth`
  std::uint64_t taken_ = 0;   // reads popped
  std::uint64_t ops_ = 0;
  std::uint64_t short_ops_ = 0;
  std::size_t under_way_ = 0;
  int failure_ = 0;
};

}  // namespace sluice
