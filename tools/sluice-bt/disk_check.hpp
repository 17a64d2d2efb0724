// Digests of pieces as they lie on the disk. Plain blocking calls: for worker threads.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "layout.hpp"
#include "sha1.hpp"

namespace bt {

// One piece at a time, with memory and descriptors of its own. Nothing of the layout or the
// descriptors may go away meanwhile.
class disk_reader {
 public:
  disk_reader(const layout& of, std::span<const int> descriptors);
  // The error is an errno value; ENODATA for a file that is too short.
  [[nodiscard]] std::expected<sha1_digest, int> digest_of(std::uint32_t piece);
  // No byte of it was ever written; false where the filesystem cannot tell.
  [[nodiscard]] bool is_hole(std::uint32_t piece) const;

 private:
  const layout& layout_;
  std::span<const int> descriptors_;
  std::vector<std::byte> memory_;
  sha1 hash_;
};

}  // namespace bt
