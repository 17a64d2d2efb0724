// Anonymous memory for the arena, with the largest pages to be had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "sluice/result.hpp"

namespace sluice::kernel {

enum class page_wish : std::uint8_t { small, huge_if_possible, huge_reserved };
enum class page_kind : std::uint8_t { small, transparent_huge, reserved_huge };

// Owns a mapping. It is absent in a forked child (MADV_DONTFORK, kernel-notes/dontfork_arena.md):
// the kernel may be writing into it.
class memory_map {
 public:
  // ENOMEM; with huge_reserved also when vm.nr_hugepages does not suffice.
  static result<memory_map> make(std::size_t bytes, page_wish wish);
  memory_map(memory_map&& other) noexcept;
  memory_map& operator=(memory_map&&) = delete;
  ~memory_map();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] page_kind kind() const { return kind_; }

 private:
  memory_map(std::byte* data, std::size_t bytes, page_kind kind)
      : data_(data), bytes_(bytes), kind_(kind) {}
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  page_kind kind_ = page_kind::small;
};

// "8388608 bytes (hard 8388608)", for messages about RLIMIT_MEMLOCK.
[[nodiscard]] std::string memlock_limit_text();

}  // namespace sluice::kernel
