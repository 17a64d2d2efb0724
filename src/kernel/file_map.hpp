// A window of a file in memory, shared with the page cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sluice/result.hpp"

namespace sluice::kernel {

// Owns the mapping. Its memory may be given to the kernel to receive into, which answers EFAULT
// where a page cannot be had; whoever touches such a page himself is ended by SIGBUS
// (kernel-notes/receive_into_mapping_faults.md). So nobody does.
class file_map {
 public:
  // Maps [offset, offset + bytes), which lies within the file; the beginning need not be aligned.
  static result<file_map> make(int fd, std::uint64_t offset, std::size_t bytes);
  file_map(file_map&& other) noexcept;
  file_map& operator=(file_map&&) = delete;
  ~file_map();

  [[nodiscard]] std::byte* data() const { return mapped_ + skip_; }
  [[nodiscard]] std::size_t bytes() const { return mapped_bytes_ - skip_; }

 private:
  file_map(std::byte* mapped, std::size_t mapped_bytes, std::size_t skip)
      : mapped_(mapped), mapped_bytes_(mapped_bytes), skip_(skip) {}
  std::byte* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::size_t skip_ = 0;  // from the beginning of the page
};

// Page faults of this thread so far, those that waited for a disk included.
[[nodiscard]] std::uint64_t faults_of_thread();

}  // namespace sluice::kernel
