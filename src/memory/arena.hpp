// The engine's data memory: one mapping, split into small blocks for heads and large ones for data,
// registered once with the ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/memory_map.hpp"
#include "sluice/result.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

class arena {
 public:
  // ENOMEM; EINVAL when the heads leave no room for at least two data blocks.
  static result<arena> make(const tuning::memory_knobs& settings);

  // arena_bytes = head_blocks x head_bytes, rounded up to a data block   (heads)
  //             + as many data blocks as fit in the rest                (blocks)
  [[nodiscard]] std::span<std::byte> heads() const { return heads_; }
  [[nodiscard]] std::span<std::byte> blocks() const { return blocks_; }
  [[nodiscard]] std::span<std::byte> all() const {
    return {map_.data(), blocks_.size() + heads_.size()};
  }
  [[nodiscard]] kernel::page_kind pages() const { return map_.kind(); }

 private:
  explicit arena(kernel::memory_map map) : map_(std::move(map)) {}
  kernel::memory_map map_;
  std::span<std::byte> blocks_;  // first: they are the ones that registration pays for
  std::span<std::byte> heads_;
};

}  // namespace sluice
