// Finding the end of a request head in received bytes, before anything is parsed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluiced {

enum class head_state : std::uint8_t {
  incomplete,
  complete,
  // A byte that no head may hold, or a line that ends in a bare LF: no need to wait for more. A TLS
  // client is told at once this way.
  malformed,
};

// Looks at every byte once, however the head is split. Start a new one for each head.
class head_scan {
 public:
  // `received` begins where the head begins and only grows from call to call.
  head_state look(std::span<const std::byte> received);

  // Length of the head with its empty line, once complete.
  [[nodiscard]] std::size_t head_bytes() const { return looked_; }
  [[nodiscard]] bool has_line() const { return lines_ > 0; }  // the request-line is here

 private:
  std::size_t looked_ = 0;
  std::size_t line_bytes_ = 0;  // of the present line, without CR
  std::size_t lines_ = 0;
  bool after_cr_ = false;
};

// Empty lines before a request-line, which RFC 9112 section 2.2 asks to ignore: their length.
[[nodiscard]] std::size_t leading_empty_lines(std::span<const std::byte> received);

}  // namespace sluiced
