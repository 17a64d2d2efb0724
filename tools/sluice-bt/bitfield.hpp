// Which pieces somebody has, as the wire writes it: the first piece is the highest bit.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bt {

class bitfield {
 public:
  explicit bitfield(std::uint32_t pieces) : pieces_(pieces), bytes_((pieces + 7) / 8) {}

  [[nodiscard]] std::uint32_t size() const { return pieces_; }
  [[nodiscard]] bool has(std::uint32_t piece) const {
    return (bytes_[piece / 8] & mask(piece)) != std::byte{0};
  }
  void set(std::uint32_t piece) { bytes_[piece / 8] |= mask(piece); }
  [[nodiscard]] std::uint32_t count() const {
    int bits = 0;
    for (const std::byte b : bytes_) bits += std::popcount(std::to_integer<unsigned>(b));
    return static_cast<std::uint32_t>(bits);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  // As received, of the right length. False: bits behind the last piece are set.
  [[nodiscard]] bool assign(std::span<const std::byte> bytes) {
    bytes_.assign(bytes.begin(), bytes.end());
    const unsigned spare = static_cast<unsigned>(bytes_.size() * 8 - pieces_);
    return (std::to_integer<unsigned>(bytes_.back()) & ((1U << spare) - 1)) == 0;
  }

 private:
  static std::byte mask(std::uint32_t piece) { return std::byte{0x80} >> (piece % 8); }
  std::uint32_t pieces_;
  std::vector<std::byte> bytes_;
};

}  // namespace bt
