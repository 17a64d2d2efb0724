// Answers, and how their heads look on the wire.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "refusal.hpp"
#include "request.hpp"
#include "sluice/file.hpp"
#include "sluice/transfer.hpp"

namespace sluiced {

// What a handler answers. The body is either `text` or the range of `payload`, never both.
struct answer {
  int status = 200;
  std::string fields;                   // further lines, each "Name: value\r\n"
  std::string text;                     // text/plain
  std::optional<sluice::file> payload;  // of a GET
  sluice::file_info seen;               // what the payload was when `fields` were made of it
  std::uint64_t offset = 0;             // in the payload
  std::uint64_t length = 0;             // of the payload; HEAD says it and sends nothing
  std::string cause;                    // of a 5xx, for the operator: the error of the library
  bool to_nobody = false;               // the peer is gone or the server ends: close without a word
  bool describes_file = false;          // the length is the payload's: 200 and 206 of GET and HEAD
  bool has_trailers = false;            // the payload is one chunk, and end_of_payload follows it
};

// With "status reason: sentence" as the body, so that a person who runs curl sees what happened.
// 503 says Retry-After too.
[[nodiscard]] answer answer_of(const refusal& why);

enum class connection_field : std::uint8_t { none, close, keep_alive };

// The head of an answer, its empty line included. `date_seconds` is now.
[[nodiscard]] std::string format_head(const answer& a, connection_field connection,
                                      std::int64_t date_seconds);

// What follows the payload of an answer with trailers: its receipt (RFC 9112 section 7.1).
[[nodiscard]] std::string end_of_payload(const sluice::receipt& moved);

[[nodiscard]] std::string_view reason_phrase(int status);

// The value of Sluice-Receipt: `path=direct; reason="..."; copies=1; misrouted=0; ops=3;
// short_ops=0; first_byte_us=12; last_byte_us=40; stored_us=55; durable_us=900; bytes=5;
// durability=durable`. Times are since the transfer's start, and 0 for what did not come.
// `durability` is "durable", "stored", "unknown" after a failed sync, or "none" when nothing was
// published.
[[nodiscard]] std::string format_receipt(const sluice::receipt& moved, std::string_view durability);

}  // namespace sluiced
