// Any bytes as what a peer sends: every head gets the same answer however it is asked for, stays
// within the limits it was given, and is read without looking beyond it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "bitfield.hpp"
#include "wire.hpp"

namespace {

constexpr std::uint32_t pieces = 77;
constexpr bt::wire_limits limits{.bitfield_bytes = (pieces + 7) / 8, .block_bytes_max = 16 << 10};

void require(bool holds) {
  if (!holds) std::abort();
}

// A copy of exactly so many bytes, so that a sanitizer sees a look beyond them.
struct exact_copy {
  explicit exact_copy(std::span<const std::byte> of)
      : memory(new std::byte[of.size()]), bytes(memory.get(), of.size()) {
    std::ranges::copy(of, memory.get());
  }
  std::unique_ptr<std::byte[]> memory;
  std::span<const std::byte> bytes;
};

// The shape of the next frame; head_bytes beyond what is there: it is not whole.
sluice::frame_shape shape_of(const sluice::frame_protocol& protocol,
                             std::span<const std::byte> input) {
  std::size_t shown = protocol.head_bytes_min;
  while (true) {
    const exact_copy head(input.first(std::min(shown, input.size())));
    if (head.bytes.size() < shown) return {.head_bytes = protocol.head_bytes_max + 1};
    const sluice::frame_shape shape = protocol.parse(protocol.context, head.bytes);
    if (shape.bad) return shape;
    require(shape.head_bytes <= protocol.head_bytes_max);
    if (shape.head_bytes <= shown) return shape;
    shown = shape.head_bytes;
  }
}

void check(const bt::message& m, const sluice::frame_shape& shape) {
  require(static_cast<std::uint32_t>(m.kind) == shape.kind);
  require(shape.payload_bytes == 0 || m.kind == bt::message_kind::piece ||
          m.kind == bt::message_kind::bitfield || m.kind == bt::message_kind::unknown);
  if (m.kind == bt::message_kind::piece)
    require(shape.payload_bytes > 0 && shape.payload_bytes <= limits.block_bytes_max);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), bytes);
  if (input.size() >= bt::handshake_bytes)
    static_cast<void>(bt::read_handshake(input.first<bt::handshake_bytes>()));
  const sluice::frame_protocol protocol = bt::wire_protocol(limits);
  while (input.size() >= protocol.head_bytes_min) {
    const sluice::frame_shape shape = shape_of(protocol, input);
    if (shape.bad || shape.head_bytes > input.size()) return 0;
    require(shape.head_bytes >= protocol.head_bytes_min);
    require(shape.payload_bytes <= protocol.payload_bytes_max);
    const exact_copy head(input.first(shape.head_bytes));
    const bt::message m = bt::read_message(head.bytes);
    check(m, shape);
    input = input.subspan(shape.head_bytes);
    if (input.size() < shape.payload_bytes) return 0;
    bt::bitfield bits(pieces);
    if (m.kind == bt::message_kind::bitfield && bits.assign(input.first(shape.payload_bytes)))
      require(bits.count() <= pieces);
    input = input.subspan(shape.payload_bytes);
  }
  return 0;
}
