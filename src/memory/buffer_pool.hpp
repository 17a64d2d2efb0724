// Blocks of one size out of the arena: a LIFO free list, because the block used last is the one
// still in the processor's cache, and FIFO waiters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/lists.hpp"
#include "sluice/engine.hpp"
#include "sluice/lease.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

class loop;
class registration;

// Loop thread only. Outlives its leases.
class buffer_class {
 public:
  // The blocks lie in `memory`, whose size is a multiple of block_bytes.
  buffer_class(std::span<std::byte> memory, std::uint32_t block_bytes, loop& on,
               tuning::memory_counters& counters);
  buffer_class(const buffer_class&) = delete;
  buffer_class& operator=(const buffer_class&) = delete;
  ~buffer_class();

  // From here on leases say which registered buffer they lie in. Null: none.
  void use(registration* registered) { registered_ = registered; }

  [[nodiscard]] lease try_take();  // empty when no block is free
  // One more lease holds the block that `data` lies in.
  void share(const std::byte* data);
  // One lease less; with the last one the block goes to whoever waits longest, or is free.
  void give_back(const std::byte* data);
  // Parks the waiter; the block comes by lease_await::granted_.
  void wait(op& waiter, scope* task_scope);

  [[nodiscard]] std::uint32_t block_bytes() const { return block_bytes_; }
  [[nodiscard]] std::size_t blocks() const { return memory_.size() / block_bytes_; }
  [[nodiscard]] std::size_t free_blocks() const { return free_.size(); }
  // Somebody waits for a block: whoever holds one should hurry.
  [[nodiscard]] bool wanted() const { return !waiters_.empty(); }
  // Less than a quarter is free: nobody should take a block before there are bytes for it.
  [[nodiscard]] bool scarce() const { return free_.size() * 4 < blocks(); }
  [[nodiscard]] loop& on() const { return loop_; }

 private:
  [[nodiscard]] std::uint32_t index_of(const std::byte* data) const;
  lease make_lease(std::uint32_t index);
  std::span<std::byte> memory_;
  std::uint32_t block_bytes_;
  loop& loop_;
  tuning::memory_counters& counters_;
  registration* registered_ = nullptr;
  std::vector<std::uint32_t> free_;     // back: freed last
  std::vector<std::uint32_t> holders_;  // by block: how many leases share it, 0 while free
  op_list waiters_;                     // front: waits longest
};

}  // namespace sluice
