#include "head_scan.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

using namespace sluiced;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

head_state look(std::string_view text) {
  head_scan scan;
  return scan.look(bytes(text));
}

TEST_CASE("a head ends with its empty line, wherever it was split") {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string received = head + "GET";
  for (std::size_t split = 0; split < head.size(); ++split) {
    CAPTURE(split);
    head_scan scan;
    REQUIRE(scan.look(bytes(received).first(split)) == head_state::incomplete);
    CHECK(scan.look(bytes(received)) == head_state::complete);
    CHECK(scan.head_bytes() == head.size());
  }
}

TEST_CASE("a byte that no head may hold is told at once") {
  CHECK(look("\x16\x03\x01") == head_state::malformed);
  CHECK(look("GET / HTTP/1.1\n") == head_state::malformed);
  CHECK(look("GET /\r HTTP") == head_state::malformed);
  CHECK(look(std::string_view("GE\0T", 4)) == head_state::malformed);
  CHECK(look("a\x7f") == head_state::malformed);
  CHECK(look("A: \t\xc3\xa4\r\n") == head_state::incomplete);
}

TEST_CASE("the first line is known to be there") {
  head_scan scan;
  scan.look(bytes("GET / HTTP/1.1"));
  CHECK_FALSE(scan.has_line());
  scan.look(bytes("GET / HTTP/1.1\r\nA"));
  CHECK(scan.has_line());
}

TEST_CASE("empty lines before a request are counted, half of one is not") {
  CHECK(leading_empty_lines(bytes("")) == 0);
  CHECK(leading_empty_lines(bytes("\r\n\r\nGET")) == 4);
  CHECK(leading_empty_lines(bytes("\r\n\r")) == 2);
  CHECK(leading_empty_lines(bytes("G\r\n")) == 0);
}

}  // namespace
