// A ring of provided buffers (io_uring_setup_buf_ring(3)): a receive that brings no memory takes
// the buffer that was given longest ago, once there are bytes for it; in bundles, several in a row.
#pragma once

#include <liburing.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace sluice::kernel {

// Keeps book of where in the ring each buffer stands, because a bundle names its first one only
// (kernel-notes/recv_multishot_ends_without_buffers.md). Every buffer is given at first. One
// thread.
class buffer_ring {
 public:
  // 1 to 32,768 buffers of the same size; their memory must outlive the registration.
  buffer_ring(std::vector<std::byte*> buffers, std::uint32_t bytes_each);

  [[nodiscard]] io_uring_buf_ring* entries() {
    return reinterpret_cast<io_uring_buf_ring*>(pages_[0].bytes);
  }
  [[nodiscard]] std::uint32_t entry_count() const { return mask_ + 1; }  // a power of two
  [[nodiscard]] std::size_t buffers() const { return memory_.size(); }
  [[nodiscard]] std::uint32_t bytes_each() const { return bytes_each_; }
  [[nodiscard]] std::byte* memory(std::uint16_t buffer) const { return memory_[buffer]; }

  // Calls each(buffer, bytes) for what an answer has brought that names `first`, in the order of
  // the stream. The buffers are the caller's until given. What the kernel has answered so far must
  // be told before it is entered again.
  template <class Each>
  void taken(std::uint16_t first, std::size_t bytes, Each each) {
    std::size_t place = place_of_[first];
    do {
      const std::size_t some = std::min<std::size_t>(bytes, bytes_each_);
      each(buffer_at_[place++ % buffer_at_.size()], static_cast<std::uint32_t>(some));
      bytes -= some;
    } while (bytes > 0);
  }
  void give(std::uint16_t buffer);

 private:
  // What io_uring_register(2) takes starts at a page.
  struct alignas(4096) page {
    std::byte bytes[4096];
  };
  std::vector<std::byte*> memory_;
  const std::uint32_t bytes_each_;
  const std::uint32_t mask_;
  std::unique_ptr<page[]> pages_;
  std::size_t given_ = 0;  // buffers, since the beginning
  // By place, of the last two turns of the ring: answers are told in another order than buffers
  // were taken, and those of the first ones given again meanwhile.
  std::vector<std::uint16_t> buffer_at_;
  std::vector<std::size_t> place_of_;  // by buffer: how many were given before it was given last
};

}  // namespace sluice::kernel
