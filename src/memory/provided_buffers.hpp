// Buffers of the pool that belong to no receive until there are bytes for it: who only waits holds
// none. What came stands in chains, one for each stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernel/buffer_ring.hpp"
#include "memory/buffer_pool.hpp"

namespace sluice {

class ring_backend;

// Received pieces of one stream, oldest first. Give all of it back before it ends.
class buffer_chain {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  friend class provided_buffers;
  std::uint16_t first_ = 0;
  std::uint16_t last_ = 0;
  std::size_t count_ = 0;
};

// Loop thread only. Takes blocks of the pool with its first user and gives them back with the last.
class provided_buffers {
 public:
  // `wanted_bytes`: at most a quarter of the pool's are taken, and none of its last half.
  provided_buffers(ring_backend& ring, buffer_class& blocks, std::uint64_t wanted_bytes);
  provided_buffers(const provided_buffers&) = delete;
  provided_buffers& operator=(const provided_buffers&) = delete;
  ~provided_buffers();

  // What a receive names (op_request::buffer_index).
  static constexpr std::uint16_t group = 0;

  // Why the kernel takes no ring of buffers, an errno, or 0: it is given one for a moment.
  [[nodiscard]] int refusal() const;
  // One user more, which must leave() once none of its receives is in flight. An errno, 0 when
  // done: ENOBUFS while the pool has no block to spare, EINVAL before Linux 5.19, ENOMEM.
  [[nodiscard]] int join();
  void leave();
  // The same for a user whose receive was asked to end, in two steps: asked, and ended.
  void leave_soon() { ++leaving_; }
  void leave_now() {
    --leaving_;
    leave();
  }
  [[nodiscard]] std::size_t leaving() const { return leaving_; }

  // The most that one stream should let come before somebody takes it.
  [[nodiscard]] std::size_t fair_share() const;

  // What a receive was told (op::received), to be told in the order of the answers.
  void append(buffer_chain& to, std::uint16_t first, std::uint32_t bytes);
  [[nodiscard]] std::span<std::byte> front(const buffer_chain& of) const;
  void give_back_front(buffer_chain& of);
  void give_back(buffer_chain& all);

 private:
  struct link {
    std::uint32_t bytes = 0;
    std::uint16_t next = 0;
  };
  void take_blocks();
  ring_backend& ring_;
  buffer_class& pool_;
  const std::uint64_t wanted_bytes_;
  std::size_t users_ = 0;
  std::size_t leaving_ = 0;  // of them
  std::vector<lease> blocks_;
  std::optional<kernel::buffer_ring> buffers_;  // while there are users
  std::vector<link> links_;                     // by buffer, of those in chains
};

}  // namespace sluice
