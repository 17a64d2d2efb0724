#include "pattern.hpp"

#include <algorithm>
#include <cstring>
#include <random>

namespace bench {

namespace {

// A prime stride: ids below the period all begin at different places.
std::size_t start_of(std::uint64_t id) {
  return static_cast<std::size_t>((id % pattern::period) * 61 % pattern::period);
}

}  // namespace

pattern::pattern() : bytes_(period + piece_max) {
  std::mt19937_64 random(20110421);
  for (std::size_t at = 0; at < period; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(bytes_.data() + at, &word, std::min(sizeof word, period - at));
  }
  std::memcpy(bytes_.data() + period, bytes_.data(), piece_max);
}

std::span<const std::byte> pattern::piece(std::uint64_t id, std::uint64_t offset,
                                          std::uint64_t bytes) const {
  const std::size_t at = (start_of(id) + static_cast<std::size_t>(offset % period)) % period;
  return {bytes_.data() + at, static_cast<std::size_t>(std::min<std::uint64_t>(bytes, piece_max))};
}

bool pattern::matches(std::uint64_t id, std::uint64_t offset,
                      std::span<const std::byte> seen) const {
  while (!seen.empty()) {
    const std::span<const std::byte> wanted = piece(id, offset, seen.size());
    if (std::memcmp(wanted.data(), seen.data(), wanted.size()) != 0) return false;
    offset += wanted.size();
    seen = seen.subspan(wanted.size());
  }
  return true;
}

std::uint64_t pattern::identity(std::uint64_t id) const {
  std::uint64_t word = 0;
  static_assert(sizeof word == identity_bytes);
  std::memcpy(&word, bytes_.data() + start_of(id), identity_bytes);
  return word;
}

}  // namespace bench
