// Digests of pieces as they lie on the disk. Plain blocking calls: for worker threads.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "layout.hpp"
#include "sha1.hpp"

namespace bt {

// The page cache gives up what it holds of them and need not write, so that digests are of what the
// disk has: pages whose write failed count as written (kernel-notes/failed_sync_is_told_once.md).
// What is still to be written stays, and the sync that follows says how that went.
void forget_cached(std::span<const int> descriptors);

// One piece at a time, with memory and descriptors of its own. Nothing of the layout or the
// descriptors may go away meanwhile.
class disk_reader {
 public:
  disk_reader(const layout& of, std::span<const int> descriptors);
  // The error is an errno value; ENODATA for a file that is too short.
  [[nodiscard]] std::expected<sha1_digest, int> digest_of(std::uint32_t piece);
  // No byte of it was ever written; false where the filesystem cannot tell.
  [[nodiscard]] bool is_hole(std::uint32_t piece) const;
  // What digest_of would say of a piece that is a hole, without reading it.
  [[nodiscard]] const sha1_digest& digest_of_hole(std::uint32_t piece);

 private:
  void hash_zeroes(std::uint64_t bytes);
  const layout& layout_;
  std::span<const int> descriptors_;
  std::vector<std::byte> memory_;
  sha1 hash_;
  std::uint64_t hole_bytes_ = 0;  // of the piece whose digest is kept; all but the last are alike
  sha1_digest hole_digest_{};
};

}  // namespace bt
