#include "support/seeded_data.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace support {
namespace {

// How many bytes of `count` at `offset` come before the pattern's first whole word.
std::size_t before_words(std::size_t count, std::uint64_t offset) {
  return std::min<std::size_t>(count, (8 - offset % 8) % 8);
}

}  // namespace

void fill_pattern(std::span<std::byte> into, std::uint64_t seed, std::uint64_t offset) {
  const std::size_t first = before_words(into.size(), offset);
  std::size_t i = 0;
  for (; i < first; ++i) into[i] = pattern_byte(seed, offset + i);
  // Nearly all of it: a store instead of eight.
  for (std::uint64_t index = (offset + i) / 8; into.size() - i >= 8; i += 8, ++index) {
    const std::uint64_t word = pattern_word(seed, index);
    std::memcpy(into.data() + i, &word, sizeof word);
  }
  for (; i < into.size(); ++i) into[i] = pattern_byte(seed, offset + i);
}

std::size_t first_difference(std::span<const std::byte> seen, std::uint64_t seed,
                             std::uint64_t offset) {
  const std::size_t first = before_words(seen.size(), offset);
  std::size_t i = 0;
  while (i < first && seen[i] == pattern_byte(seed, offset + i)) ++i;
  if (i < first) return i;
  for (std::uint64_t index = (offset + i) / 8; seen.size() - i >= 8; i += 8, ++index) {
    std::uint64_t word = 0;
    std::memcpy(&word, seen.data() + i, sizeof word);
    if (word != pattern_word(seed, index)) break;
  }
  while (i < seen.size() && seen[i] == pattern_byte(seed, offset + i)) ++i;
  return i;
}

static_assert(std::endian::native == std::endian::little, "words stand in memory as in the file");

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace support
