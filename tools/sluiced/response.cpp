#include "response.hpp"

#include <fmt/compile.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <utility>

#include "http_date.hpp"

namespace sluiced {

namespace {

using row = std::pair<int, std::string_view>;

constexpr std::array reasons = std::to_array<row>({
    {200, "OK"},
    {201, "Created"},
    {204, "No Content"},
    {206, "Partial Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
});

bool has_no_content(int status) { return status == 204 || status == 304; }

std::string_view line_of(connection_field connection) {
  switch (connection) {
    case connection_field::none: return "";
    case connection_field::close: return "Connection: close\r\n";
    case connection_field::keep_alive: return "Connection: keep-alive\r\n";
  }
  return "";
}

}  // namespace

std::string_view reason_phrase(int status) {
  const auto* found = std::ranges::find(reasons, status, &row::first);
  return found == reasons.end() ? std::string_view("Unknown") : found->second;
}

answer answer_of(const refusal& why) {
  answer a;
  a.status = why.status;
  a.text = fmt::format("{} {}: {}\n", why.status, reason_phrase(why.status), why.text);
  if (why.status == 503) a.fields = "Retry-After: 1\r\n";  // what was short comes back
  return a;
}

std::string format_head(const answer& a, connection_field connection, std::int64_t date_seconds) {
  std::string head;
  head.reserve(512);
  auto out = std::back_inserter(head);
  fmt::format_to(out, FMT_COMPILE("HTTP/1.1 {} {}\r\nDate: {}\r\n{}"), a.status,
                 reason_phrase(a.status), format_http_date(date_seconds), line_of(connection));
  if (a.has_trailers)
    head.append("Transfer-Encoding: chunked\r\nTrailer: Sluice-Receipt\r\n");
  else if (a.describes_file)
    fmt::format_to(out, FMT_COMPILE("Content-Length: {}\r\n"), a.length);
  else if (!has_no_content(a.status))
    fmt::format_to(out, FMT_COMPILE("Content-Length: {}\r\n"), a.text.size());
  if (!a.text.empty()) head.append("Content-Type: text/plain; charset=utf-8\r\n");
  head.append(a.fields).append("\r\n");
  if (a.has_trailers) fmt::format_to(out, "{:x}\r\n", a.length);
  return head;
}

std::string end_of_payload(const sluice::receipt& moved) {
  return fmt::format("\r\n0\r\nSluice-Receipt: {}\r\n\r\n", format_receipt(moved, "none"));
}

std::string format_receipt(const sluice::receipt& moved, std::string_view durability) {
  const auto us = [](std::chrono::nanoseconds since_start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(since_start).count();
  };
  return fmt::format(
      "path={}; reason=\"{}\"; copies={}; misrouted={}; ops={}; short_ops={}; first_byte_us={}; "
      "last_byte_us={}; stored_us={}; durable_us={}; bytes={}; durability={}",
      sluice::name(moved.path), moved.reason, moved.copies, moved.misrouted_bytes, moved.ops,
      moved.short_ops, us(moved.first_byte), us(moved.last_byte), us(moved.stored),
      us(moved.durable), moved.bytes, durability);
}

}  // namespace sluiced
