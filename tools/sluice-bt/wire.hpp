// The messages that peers send each other (BEP 3), and how sluice's framed receive is told of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>
#include <vector>

#include "sha1.hpp"
#include "sluice/frames.hpp"

namespace bt {

inline constexpr std::size_t handshake_bytes = 68;
inline constexpr std::size_t piece_head_bytes = 13;
inline constexpr std::uint32_t request_bytes_max = 128 << 10;  // of one request that we answer

using peer_id = std::array<std::byte, 20>;

struct handshake {
  sha1_digest info_hash{};
  peer_id id{};
};
[[nodiscard]] std::array<std::byte, handshake_bytes> write_handshake(const handshake& of);
// The error says why the bytes are none; a string literal.
[[nodiscard]] std::expected<handshake, const char*> read_handshake(
    std::span<const std::byte, handshake_bytes> bytes);

enum class message_kind : std::uint8_t {
  choke = 0,
  unchoke = 1,
  interested = 2,
  not_interested = 3,
  have = 4,
  bitfield = 5,
  request = 6,
  piece = 7,
  cancel = 8,
  keep_alive = 254,
  unknown = 255,  // of extensions that we did not agree to; to be passed over
};

// What a message says; fields its kind does not have are 0.
struct message {
  message_kind kind = message_kind::unknown;
  std::uint32_t index = 0;   // have, request, piece, cancel: of the piece
  std::uint32_t begin = 0;   // request, piece, cancel: in the piece
  std::uint32_t length = 0;  // request, cancel
};

// What a torrent allows of its peers' messages.
struct wire_limits {
  std::uint64_t bitfield_bytes = 0;   // exactly so many
  std::uint64_t block_bytes_max = 0;  // of a piece message: what we ask for
  std::uint64_t unknown_bytes_max = 1 << 20;
};

// Heads with all but the payload of piece, bitfield and unknown messages. A length that the kind
// does not have makes a bad frame. `limits` must outlive the receiver.
[[nodiscard]] sluice::frame_protocol wire_protocol(const wire_limits& limits);
// `head` is that of a frame of the protocol.
[[nodiscard]] message read_message(std::span<const std::byte> head);

// Appended to `to`.
void append_message(std::vector<std::byte>& to, message_kind kind);  // without fields
void append_have(std::vector<std::byte>& to, std::uint32_t piece);
void append_bitfield(std::vector<std::byte>& to, std::span<const std::byte> bits);
void append_request(std::vector<std::byte>& to, message_kind kind, std::uint32_t piece,
                    std::uint32_t begin, std::uint32_t length);  // request, cancel
// What stands before the payload of a piece message.
[[nodiscard]] std::array<std::byte, piece_head_bytes> write_piece_head(std::uint32_t piece,
                                                                       std::uint32_t begin,
                                                                       std::uint32_t bytes);

}  // namespace bt
