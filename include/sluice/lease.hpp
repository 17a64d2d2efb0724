// Move-only ownership of one block of the engine's buffer pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "sluice/api.hpp"

namespace sluice {

class buffer_class;

// Page-aligned memory of a fixed size, registered with the ring where the kernel allowed it.
// Returns itself when destroyed, or goes straight to whoever waits longest. A block may be shared
// by several leases, each of a part of it; it goes back with the last. Loop thread only; must not
// outlive the engine.
class SLUICE_API lease {
 public:
  lease() = default;
  lease(buffer_class* from, std::byte* data, std::uint32_t bytes, std::int32_t buffer_index)
      : from_(from), data_(data), bytes_(bytes), buffer_index_(buffer_index) {}
  lease(lease&& other) noexcept { swap(other); }
  lease& operator=(lease&& other) noexcept {
    lease taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~lease() { reset(); }

  void reset();  // gives the block back now
  // Another lease of the same block, for [offset, offset + bytes) of this one; the memory stays
  // usable through both. The range must lie within, and neither it nor the lease be empty.
  [[nodiscard]] lease part(std::uint32_t offset, std::uint32_t bytes) const;
  explicit operator bool() const { return data_ != nullptr; }
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::uint32_t size() const { return bytes_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data_, bytes_}; }
  // Index of the registered buffer that holds the block, -1 when it is not registered.
  [[nodiscard]] std::int32_t buffer_index() const { return buffer_index_; }

 private:
  void swap(lease& other) noexcept {
    std::swap(from_, other.from_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(buffer_index_, other.buffer_index_);
  }
  buffer_class* from_ = nullptr;
  std::byte* data_ = nullptr;
  std::uint32_t bytes_ = 0;
  std::int32_t buffer_index_ = -1;
};

}  // namespace sluice
