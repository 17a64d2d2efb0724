// The chunked transfer coding, RFC 9112 section 7.1: finds the body bytes where they lie.
//
// Ours and not Beast's, because a body arrives in blocks of the pool: this one keeps its place
// between any two bytes, while Beast's wants each chunk head contiguous (it would have to be moved
// from block to block) and, in 1.74, asserts on a last chunk split after its second byte.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluiced {

class chunk_decoder {
 public:
  // Reads `in`, adds the body bytes among them to `body` as places inside `in`, and returns how
  // many bytes it read: all of them, unless the coding ended or is malformed.
  //
  // Pieces below 4 KiB are moved up to the end of the place before them: one byte per chunk is
  // allowed too, and a place for each would cost more than the move. `body` may therefore hold
  // places of earlier calls only if `in` goes on in the same block; it never holds more than one
  // place per 4 KiB and one more.
  std::size_t feed(std::span<std::byte> in, std::vector<iovec>& body);

  [[nodiscard]] bool ended() const { return state_ == state::ended; }
  [[nodiscard]] bool malformed() const { return state_ == state::malformed; }
  [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }
  // Body bytes known to come in the present chunk.
  [[nodiscard]] std::uint64_t chunk_left() const { return chunk_left_; }

 private:
  enum class state : std::uint8_t {
    size_first,  // a chunk begins: its first hexadecimal digit
    size,        // further digits
    size_blank,  // blanks that must lead to an extension
    extension,   // skipped up to CR
    size_lf,     // CR seen
    data,        // chunk_left_ body bytes
    data_cr,     // the CRLF behind them
    data_lf,
    trailer_first,  // a trailer line begins, or the CR of the empty line
    trailer,        // skipped up to CR
    trailer_lf,
    last_lf,
    ended,
    malformed,
  };

  [[nodiscard]] state after(std::byte b);
  [[nodiscard]] state after_size_digit(unsigned char c);
  [[nodiscard]] state after_size_line() const;

  state state_ = state::size_first;
  std::uint32_t line_bytes_ = 0;     // of the present chunk head, bounded
  std::uint32_t trailer_bytes_ = 0;  // of all trailer lines, bounded
  std::uint64_t chunk_left_ = 0;
  std::uint64_t body_bytes_ = 0;
};

}  // namespace sluiced
