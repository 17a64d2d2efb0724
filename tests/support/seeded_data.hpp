// Data that a seed fixes: every byte can be checked from its offset alone, so that a test of a part
// of a file or stream needs no copy of the whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace support {

// SplitMix64: the seed of everything random in the tests.
class seeded_random {
 public:
  explicit seeded_random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

// The eight bytes at offsets 8 * index ... 8 * index + 7.
inline std::uint64_t pattern_word(std::uint64_t seed, std::uint64_t index) {
  return seeded_random(seed ^ (index * 0xd1342543de82ef95U)).next();
}

inline std::byte pattern_byte(std::uint64_t seed, std::uint64_t offset) {
  return static_cast<std::byte>(pattern_word(seed, offset / 8) >> (offset % 8 * 8));
}

// What goes through every byte is compiled with optimization, unlike the tests (seeded_data.cpp).

// Writes the pattern of [offset, offset + into.size()).
void fill_pattern(std::span<std::byte> into, std::uint64_t seed, std::uint64_t offset);

// The index of the first byte that is not the pattern's at [offset, ...); the size when none is.
std::size_t first_difference(std::span<const std::byte> seen, std::uint64_t seed,
                             std::uint64_t offset);

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b);

inline std::vector<std::byte> pattern(std::uint64_t seed, std::uint64_t offset, std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  fill_pattern(made, seed, offset);
  return made;
}

inline bool is_pattern(std::span<const std::byte> seen, std::uint64_t seed, std::uint64_t offset) {
  return first_difference(seen, seed, offset) == seen.size();
}

}  // namespace support
