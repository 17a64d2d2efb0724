// The wire of the case framed, for sluice-bench and for the plain programs it compares with.
//
// A connection carries 8 bytes of little-endian length, then frames as BitTorrent's `piece`
// messages whose payloads add up to it, in order and all of one size: 4 bytes of big-endian length
// (9 and the payload), the byte 7, 4 bytes of index and 4 of begin; a payload's offset is index MiB
// and begin. Answered by three little-endian numbers of 8 bytes: 'k' or 'e', the receive calls it
// took, and with --check the sum of check_sum, else 0. That ends the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace peer {

constexpr std::size_t frame_head_bytes = 13;
constexpr std::size_t frame_answer_bytes = 24;

struct frame_head {
  std::uint64_t payload_bytes = 0;
  std::uint64_t offset = 0;
};

inline std::uint32_t decode_big_endian(const unsigned char* at) {
  return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 |
         at[3];
}

// False: no frame of this wire.
inline bool decode_frame_head(const unsigned char* head, frame_head& into) {
  const std::uint32_t length = decode_big_endian(head);
  into.payload_bytes = std::uint64_t{length} - 9;
  into.offset = (std::uint64_t{decode_big_endian(head + 5)} << 20) + decode_big_endian(head + 9);
  return length > 9 && into.payload_bytes <= 1 << 20 && head[4] == 7;
}

inline void encode_big_endian(unsigned char* into, std::uint32_t number) {
  for (int at = 0; at < 4; ++at) into[at] = static_cast<unsigned char>(number >> (24 - 8 * at));
}

inline void encode_frame_head(unsigned char* into, const frame_head& head) {
  encode_big_endian(into, static_cast<std::uint32_t>(head.payload_bytes + 9));
  into[4] = 7;
  encode_big_endian(into + 5, static_cast<std::uint32_t>(head.offset >> 20));
  encode_big_endian(into + 9, static_cast<std::uint32_t>(head.offset & 0xfffff));
}

// Of bytes that belong at `offset`, both multiples of 8: the sums of all parts of a stream add up
// to the same however it is cut, and differ when a word is wrong or in another place.
inline std::uint64_t check_sum(const void* from, std::size_t bytes, std::uint64_t offset) {
  const auto* at = static_cast<const char*>(from);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at + i, sizeof word);
    std::uint64_t mixed = (word ^ (offset + i)) * 0x9e3779b97f4a7c15;
    mixed ^= mixed >> 29;
    sum += mixed * 0xbf58476d1ce4e5b9;
  }
  return sum;
}

inline void encode_number(unsigned char* into, std::uint64_t number) {
  for (int at = 0; at < 8; ++at) into[at] = static_cast<unsigned char>(number >> (8 * at));
}

inline std::uint64_t decode_number(const unsigned char* from) {
  std::uint64_t number = 0;
  for (int at = 8; at-- > 0;) number = number << 8 | from[at];
  return number;
}

inline void encode_frame_answer(unsigned char* into, bool stored, std::uint64_t receives,
                                std::uint64_t sum) {
  encode_number(into, stored ? 'k' : 'e');
  encode_number(into + 8, receives);
  encode_number(into + 16, sum);
}

}  // namespace peer
