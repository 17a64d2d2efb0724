// The payload: bytes made once, cheap to send, and checkable afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bench {

// Pseudo-random bytes with a prime period. Object `id` is the endless repetition of them from a
// place of its own, so that objects differ, and a block written at a wrong offset shows: two
// offsets that are multiples of 4 KiB carry the same bytes only every 4096 periods (4 GiB).
class pattern {
 public:
  static constexpr std::size_t period = 1'048'583;
  // As much as one piece() may be asked for.
  static constexpr std::size_t piece_max = std::size_t{256} << 10;
  // Objects are told apart by their first bytes; shorter ones cannot be.
  static constexpr std::size_t identity_bytes = 8;

  pattern();

  // Contiguous bytes of object `id` at `offset`, at most `bytes` and piece_max of them.
  [[nodiscard]] std::span<const std::byte> piece(std::uint64_t id, std::uint64_t offset,
                                                 std::uint64_t bytes) const;
  [[nodiscard]] bool matches(std::uint64_t id, std::uint64_t offset,
                             std::span<const std::byte> seen) const;
  // The first identity_bytes of object `id` as a number: no two ids below the period share it.
  [[nodiscard]] std::uint64_t identity(std::uint64_t id) const;

 private:
  std::vector<std::byte> bytes_;  // one period and piece_max more, so that no piece wraps around
};

}  // namespace bench
