// The content of a version of a name: units of 16 bytes, each with whose it is and where it
// belongs, so that a foreign byte shows where it came from. tests/crash/promises.py makes the same.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "support/seeded_data.hpp"

namespace crash {

struct identity {
  std::uint16_t seed;
  std::uint16_t name_number;
  std::uint32_t version;

  [[nodiscard]] std::uint64_t key() const {
    return std::uint64_t{seed} << 48U | std::uint64_t{name_number} << 32U | version;
  }
};

// One byte, odd sizes, whole pages, inline and in extents, more blocks than one.
inline std::uint64_t content_bytes(const identity& of) {
  constexpr std::array<std::uint64_t, 12> sizes{1,      100,    1'800,  4'095,  4'096,   10'000,
                                                16'384, 16'384, 65'536, 70'001, 262'144, 300'007};
  return sizes[support::seeded_random(of.key()).below(sizes.size())];
}

inline std::vector<std::byte> content(const identity& of, std::uint64_t bytes) {
  std::vector<std::byte> made((bytes + 15) / 16 * 16);
  for (std::uint64_t i = 0; i < made.size() / 16; ++i) {
    const std::uint64_t unit[2] = {of.key(), i};
    std::memcpy(made.data() + 16 * i, unit, sizeof unit);
  }
  made.resize(bytes);
  return made;
}
inline std::vector<std::byte> content(const identity& of) { return content(of, content_bytes(of)); }

}  // namespace crash
