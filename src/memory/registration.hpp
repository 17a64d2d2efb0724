// The arena as registered buffers of the ring, slice by slice, each at its first use: pinning all
// of it at the start would touch every page (60-290 ms for 64 MiB on a small VM) before the first
// byte is served, and an idle engine would occupy memory it never needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "tuning/counter_values.hpp"

namespace sluice {

class ring_backend;

// Loop thread only.
class registration {
 public:
  // `refused` is told once, with an errno, when the kernel takes no more: what is registered stays,
  // the rest of the arena is used unregistered.
  registration(ring_backend& ring, std::span<std::byte> arena, std::size_t block_bytes,
               tuning::memory_counters& counters, std::function<void(int)> refused);

  // Makes the table of empty slots; an errno, 0 when done (ENOMEM: RLIMIT_MEMLOCK; EINVAL: before
  // Linux 5.19).
  int open();
  // The registered buffer that holds the block, -1 when it is not registered.
  [[nodiscard]] std::int32_t index_of(const std::byte* block);

  [[nodiscard]] std::size_t slice_bytes() const { return slice_bytes_; }
  [[nodiscard]] std::size_t slices() const { return state_.size(); }

 private:
  enum class slice_state : std::uint8_t { untouched, registered, refused };
  bool register_slice(std::size_t index);

  ring_backend& ring_;
  std::span<std::byte> arena_;
  std::size_t slice_bytes_;
  std::vector<slice_state> state_;
  tuning::memory_counters& counters_;
  std::function<void(int)> refused_;
  bool full_ = false;  // the kernel said no once: it is not asked again
};

// How large the slices are: whole huge pages, whole blocks, and no more of them than the kernel's
// table holds.
[[nodiscard]] std::size_t slice_bytes_for(std::size_t arena_bytes, std::size_t block_bytes);

}  // namespace sluice
