#include "chunk_decoder.hpp"

#include <algorithm>
#include <cstring>

namespace sluiced {

namespace {

constexpr std::uint32_t chunk_head_bytes_max = 1024;  // the size, with its extensions
constexpr std::uint32_t trailer_bytes_max = 8192;
constexpr std::size_t moved_bytes_max = 4096;

std::byte* end_of(const iovec& place) {
  return static_cast<std::byte*>(place.iov_base) + place.iov_len;
}

void add_place(std::vector<iovec>& body, std::byte* data, std::size_t bytes) {
  if (body.empty() || (end_of(body.back()) != data && bytes >= moved_bytes_max)) {
    body.push_back({data, bytes});
    return;
  }
  std::byte* target = end_of(body.back());
  if (target != data) std::memmove(target, data, bytes);
  body.back().iov_len += bytes;
}

bool is_text(unsigned char c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; }

int hex_value(unsigned char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::size_t chunk_decoder::feed(std::span<std::byte> in, std::vector<iovec>& body) {
  std::size_t read = 0;
  while (read < in.size() && state_ != state::ended && state_ != state::malformed) {
    if (state_ != state::data) {
      state_ = after(in[read++]);
      continue;
    }
    const std::size_t bytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk_left_, in.size() - read));
    add_place(body, in.data() + read, bytes);
    read += bytes;
    body_bytes_ += bytes;
    chunk_left_ -= bytes;
    if (chunk_left_ == 0) state_ = state::data_cr;
  }
  return read;
}

chunk_decoder::state chunk_decoder::after(std::byte b) {
  const auto c = std::to_integer<unsigned char>(b);
  switch (state_) {
    case state::size_first:
      line_bytes_ = 0;
      chunk_left_ = 0;
      return hex_value(c) < 0 ? state::malformed : after_size_digit(c);
    case state::size: return after_size_digit(c);
    case state::size_blank:
      if (++line_bytes_ > chunk_head_bytes_max) return state::malformed;
      if (c == ' ' || c == '\t') return state::size_blank;
      return c == ';' ? state::extension : state::malformed;
    case state::extension:
      if (++line_bytes_ > chunk_head_bytes_max) return state::malformed;
      if (c == '\r') return state::size_lf;
      return is_text(c) ? state::extension : state::malformed;
    case state::size_lf: return c == '\n' ? after_size_line() : state::malformed;
    case state::data_cr: return c == '\r' ? state::data_lf : state::malformed;
    case state::data_lf: return c == '\n' ? state::size_first : state::malformed;
    case state::trailer_first:
      if (c == '\r') return state::last_lf;
      [[fallthrough]];
    case state::trailer:
      if (++trailer_bytes_ > trailer_bytes_max) return state::malformed;
      if (c == '\r') return state::trailer_lf;
      return is_text(c) ? state::trailer : state::malformed;
    case state::trailer_lf: return c == '\n' ? state::trailer_first : state::malformed;
    case state::last_lf: return c == '\n' ? state::ended : state::malformed;
    case state::data:
    case state::ended:
    case state::malformed: break;  // feed() does not ask
  }
  return state::malformed;
}

chunk_decoder::state chunk_decoder::after_size_digit(unsigned char c) {
  if (++line_bytes_ > chunk_head_bytes_max) return state::malformed;
  const int digit = hex_value(c);
  if (digit >= 0) {
    if (chunk_left_ > (UINT64_MAX >> 4)) return state::malformed;
    chunk_left_ = (chunk_left_ << 4) | static_cast<unsigned>(digit);
    return state::size;
  }
  if (c == '\r') return state::size_lf;
  if (c == ';') return state::extension;
  return c == ' ' || c == '\t' ? state::size_blank : state::malformed;
}

chunk_decoder::state chunk_decoder::after_size_line() const {
  return chunk_left_ == 0 ? state::trailer_first : state::data;
}

}  // namespace sluiced
