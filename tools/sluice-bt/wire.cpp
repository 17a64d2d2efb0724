#include "wire.hpp"

#include <algorithm>
#include <cstring>

namespace bt {

namespace {

constexpr std::string_view protocol_name =
    "\x13"
    "BitTorrent protocol";
constexpr std::size_t reserved_bytes = 8;
constexpr std::size_t info_hash_at = protocol_name.size() + reserved_bytes;
constexpr std::size_t id_at = info_hash_at + sizeof(sha1_digest);
static_assert(id_at + sizeof(peer_id) == handshake_bytes);

constexpr std::uint32_t head_bytes_max = 17;  // request and cancel

std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (const std::byte b : bytes.subspan(at, 4)) value = value << 8U | std::to_integer<unsigned>(b);
  return value;
}

void put_number(std::byte* to, std::uint32_t value) {
  for (unsigned shift = 24;; shift -= 8) {
    *to++ = static_cast<std::byte>(value >> shift & 0xffU);
    if (shift == 0) return;
  }
}

void append_number(std::vector<std::byte>& to, std::uint32_t value) {
  std::array<std::byte, 4> bytes{};
  put_number(bytes.data(), value);
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void append_head(std::vector<std::byte>& to, std::uint32_t length, message_kind kind) {
  append_number(to, length);
  to.push_back(static_cast<std::byte>(kind));
}

// All of a message that has no payload, `length` bytes behind the first four.
sluice::frame_shape fixed(sluice::frame_shape shape, std::uint32_t length, std::uint32_t wanted) {
  shape.bad = length != wanted;
  shape.head_bytes = 4 + wanted;
  return shape;
}

sluice::frame_shape shape_of(const wire_limits& limits, message_kind kind, std::uint32_t length) {
  sluice::frame_shape shape;
  shape.kind = static_cast<std::uint32_t>(kind);
  shape.head_bytes = 5;
  shape.place = sluice::frame_place::view;
  shape.payload_bytes = std::uint64_t{length} - 1;
  switch (kind) {
    case message_kind::choke:
    case message_kind::unchoke:
    case message_kind::interested:
    case message_kind::not_interested: shape.payload_bytes = 0; return fixed(shape, length, 1);
    case message_kind::have: shape.payload_bytes = 0; return fixed(shape, length, 5);
    case message_kind::request:
    case message_kind::cancel: shape.payload_bytes = 0; return fixed(shape, length, 13);
    case message_kind::bitfield:
      shape.bad = shape.payload_bytes != limits.bitfield_bytes;
      return shape;
    case message_kind::piece:
      shape.bad = length <= 9 || length - 9 > limits.block_bytes_max;
      shape.head_bytes = piece_head_bytes;
      shape.payload_bytes = std::uint64_t{length} - 9;
      shape.place = sluice::frame_place::block;
      return shape;
    default: break;
  }
  shape.kind = static_cast<std::uint32_t>(message_kind::unknown);
  shape.bad = shape.payload_bytes > limits.unknown_bytes_max;
  return shape;
}

sluice::frame_shape parse(void* context, std::span<const std::byte> head) noexcept {
  const std::uint32_t length = number_at(head, 0);
  if (length == 0) {
    sluice::frame_shape shape;
    shape.head_bytes = 4;
    shape.kind = static_cast<std::uint32_t>(message_kind::keep_alive);
    return shape;
  }
  if (head.size() < 5) {
    sluice::frame_shape more;
    more.head_bytes = 5;
    return more;
  }
  return shape_of(*static_cast<const wire_limits*>(context), static_cast<message_kind>(head[4]),
                  length);
}

}  // namespace

std::array<std::byte, handshake_bytes> write_handshake(const handshake& of) {
  std::array<std::byte, handshake_bytes> bytes{};
  std::memcpy(bytes.data(), protocol_name.data(), protocol_name.size());
  std::ranges::copy(of.info_hash, bytes.data() + info_hash_at);
  std::ranges::copy(of.id, bytes.data() + id_at);
  return bytes;
}

std::expected<handshake, const char*> read_handshake(
    std::span<const std::byte, handshake_bytes> bytes) {
  if (std::memcmp(bytes.data(), protocol_name.data(), protocol_name.size()) != 0)
    return std::unexpected("it does not speak BitTorrent, or only encrypted");
  handshake read;
  std::ranges::copy_n(bytes.data() + info_hash_at, read.info_hash.size(), read.info_hash.data());
  std::ranges::copy_n(bytes.data() + id_at, read.id.size(), read.id.data());
  return read;
}

sluice::frame_protocol wire_protocol(const wire_limits& limits) {
  sluice::frame_protocol protocol;
  protocol.head_bytes_min = 4;
  protocol.head_bytes_max = head_bytes_max;
  protocol.payload_bytes_max =
      std::max({limits.bitfield_bytes, limits.block_bytes_max, limits.unknown_bytes_max});
  protocol.parse = parse;
  protocol.context = const_cast<wire_limits*>(&limits);  // only read
  return protocol;
}

message read_message(std::span<const std::byte> head) {
  message read;
  if (head.size() == 4) read.kind = message_kind::keep_alive;
  if (head.size() < 5) return read;
  const auto kind = static_cast<message_kind>(head[4]);
  if (kind > message_kind::cancel) return read;
  read.kind = kind;
  if (head.size() >= 9) read.index = number_at(head, 5);
  if (head.size() >= 13) read.begin = number_at(head, 9);
  if (head.size() >= 17) read.length = number_at(head, 13);
  return read;
}

void append_message(std::vector<std::byte>& to, message_kind kind) {
  if (kind == message_kind::keep_alive) return append_number(to, 0);
  append_head(to, 1, kind);
}

void append_have(std::vector<std::byte>& to, std::uint32_t piece) {
  append_head(to, 5, message_kind::have);
  append_number(to, piece);
}

void append_bitfield(std::vector<std::byte>& to, std::span<const std::byte> bits) {
  append_head(to, static_cast<std::uint32_t>(bits.size() + 1), message_kind::bitfield);
  to.insert(to.end(), bits.begin(), bits.end());
}

void append_request(std::vector<std::byte>& to, message_kind kind, std::uint32_t piece,
                    std::uint32_t begin, std::uint32_t length) {
  append_head(to, 13, kind);
  append_number(to, piece);
  append_number(to, begin);
  append_number(to, length);
}

std::array<std::byte, piece_head_bytes> write_piece_head(std::uint32_t piece, std::uint32_t begin,
                                                         std::uint32_t bytes) {
  std::array<std::byte, piece_head_bytes> head{};
  put_number(head.data(), bytes + 9);
  head[4] = static_cast<std::byte>(message_kind::piece);
  put_number(head.data() + 5, piece);
  put_number(head.data() + 9, begin);
  return head;
}

}  // namespace bt
