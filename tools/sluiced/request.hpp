// A request head of HTTP/1.1 or HTTP/1.0: parsed, checked for its framing, and copied out of the
// buffer, so that no memory of the pool is held while the request is carried out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>

#include "conditions.hpp"
#include "refusal.hpp"

namespace sluiced {

enum class method : std::uint8_t { get, head, put, remove, options, other };

struct request {
  sluiced::method method = method::other;
  std::string method_name;
  std::string target;  // as sent
  bool http_1_1 = true;
  bool keep_alive = true;
  bool chunked = false;
  bool expects_continue = false;
  bool partial = false;  // Content-Range: the body is a part of something
  std::optional<std::uint64_t> content_length;
  std::string range;
  conditions when;
  std::optional<std::string> content_digest;  // RFC 9530, as sent; digest.hpp takes them apart
  std::optional<std::string> repr_digest;
  std::string want_repr_digest;
  bool takes_trailers = false;  // TE: trailers (RFC 9110 section 10.1.4), of HTTP/1.1 alone

  [[nodiscard]] bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

// `head` is one whole head with its empty line. Refusals, after which the connection cannot go on:
// 400 malformed or ambiguous framing, 417 an expectation other than 100-continue, 501 a transfer
// coding other than chunked, 505 a version that is not 1.x.
[[nodiscard]] std::expected<request, refusal> parse_request(std::span<const std::byte> head);

}  // namespace sluiced
