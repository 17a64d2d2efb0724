#include "head_scan.hpp"

namespace sluiced {

namespace {

// Controls but the tab. Bytes from 0x80 on are obs-text of RFC 9110: allowed, opaque.
bool is_forbidden(std::byte b) {
  const auto byte = std::to_integer<unsigned char>(b);
  return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

}  // namespace

head_state head_scan::look(std::span<const std::byte> received) {
  while (looked_ < received.size()) {
    const std::byte byte = received[looked_++];
    if (after_cr_) {
      if (byte != std::byte{'\n'}) return head_state::malformed;
      after_cr_ = false;
      if (line_bytes_ == 0) return head_state::complete;
      ++lines_;
      line_bytes_ = 0;
    } else if (byte == std::byte{'\r'}) {
      after_cr_ = true;
    } else if (is_forbidden(byte)) {
      return head_state::malformed;
    } else {
      ++line_bytes_;
    }
  }
  return head_state::incomplete;
}

std::size_t leading_empty_lines(std::span<const std::byte> received) {
  std::size_t bytes = 0;
  while (received.size() - bytes >= 2 && received[bytes] == std::byte{'\r'} &&
         received[bytes + 1] == std::byte{'\n'})
    bytes += 2;
  return bytes;
}

}  // namespace sluiced
