// How a range is written by O_DIRECT: whole units in the middle, and what is left at its two ends.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

struct range_to_divide {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t unit = 1;        // of direct writes
  std::uint64_t page_bytes = 1;  // of the page cache; a multiple of `unit`, or the other way round
  std::uint64_t file_bytes = 0;  // before the transfer
  bool own = false;  // nobody else can write to the file: it was made here and has no name yet
};

// head + body + tail = length. The ends go through the page cache, after the body, on pages that
// the body does not touch: whoever writes the rest of such a page does so too, and the kernel's
// inode lock has one wait for the other.
struct range_parts {
  std::size_t head = 0;
  std::uint64_t body = 0;
  std::size_t tail = 0;
  bool padded = false;  // the body ends within a unit, which is filled up and cut off again
  [[nodiscard]] bool has_edges() const { return head > 0 || tail > 0; }
};

[[nodiscard]] range_parts divide(const range_to_divide& range);

}  // namespace sluice
