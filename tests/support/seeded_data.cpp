#include "support/seeded_data.hpp"

#include <algorithm>
#include <cstring>

namespace support {

void fill_pattern(std::span<std::byte> into, std::uint64_t seed, std::uint64_t offset) {
  std::size_t i = 0;
  while (i < into.size()) {
    const std::uint64_t at = offset + i;
    std::uint64_t word = pattern_word(seed, at / 8) >> (at % 8 * 8);
    const std::size_t end = std::min<std::size_t>(into.size(), i + 8 - at % 8);
    for (; i < end; ++i, word >>= 8U) into[i] = static_cast<std::byte>(word);
  }
}

std::size_t first_difference(std::span<const std::byte> seen, std::uint64_t seed,
                             std::uint64_t offset) {
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (seen[i] != pattern_byte(seed, offset + i)) return i;
  }
  return seen.size();
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace support
