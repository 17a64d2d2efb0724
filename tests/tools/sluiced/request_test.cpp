#include "request.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {

using namespace sluiced;

std::expected<request, refusal> parse(const std::string& head) {
  return parse_request(std::as_bytes(std::span(head)));
}

// A PUT with these further lines.
std::string put_with(const std::string& lines) {
  return "PUT /a HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n";
}

int status_of(const std::string& head) {
  const auto parsed = parse(head);
  return parsed ? 200 : parsed.error().status;
}

TEST_CASE("a request is taken apart") {
  const auto asked = parse(
      "PUT /a?b HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\nExpect: 100-Continue\r\n"
      "If-Match: \"x\"\r\nif-match: \"y\"\r\nRange: bytes=0-1\r\nIf-Range: \"z\"\r\n\r\n");
  REQUIRE(asked);
  CHECK(asked->method == method::put);
  CHECK(asked->target == "/a?b");
  CHECK(asked->content_length == 5);
  CHECK(asked->has_body());
  CHECK_FALSE(asked->chunked);
  CHECK(asked->expects_continue);
  CHECK(asked->keep_alive);
  CHECK(asked->when.if_match == "\"x\", \"y\"");
  CHECK(asked->when.if_range == "\"z\"");
  CHECK(asked->range == "bytes=0-1");
}

TEST_CASE("digest fields are kept as they were sent, several lines as one list") {
  const auto asked = parse(
      put_with("Content-Length: 0\r\nrepr-digest: a=1\r\nRepr-Digest: b=2\r\n"
               "CONTENT-DIGEST: \r\nWant-Repr-Digest: sha-256=5\r\nWant-Repr-Digest: x=1\r\n"));
  REQUIRE(asked);
  CHECK(asked->repr_digest == "a=1, b=2");
  CHECK(asked->content_digest == "");
  CHECK(asked->want_repr_digest == "sha-256=5, x=1");
  const auto without = parse(put_with("Content-Length: 0\r\nDigest: a=1\r\n"));
  REQUIRE(without);
  CHECK_FALSE(without->repr_digest.has_value());
  CHECK_FALSE(without->content_digest.has_value());
  CHECK(without->want_repr_digest.empty());
}

TEST_CASE("who takes trailers says so, in HTTP/1.1") {
  const auto takes = [](const std::string& line) {
    return parse("GET / HTTP/1.1\r\nHost: a\r\n" + line + "\r\n")->takes_trailers;
  };
  CHECK(takes("TE: trailers\r\n"));
  CHECK(takes("te: gzip;q=0.5 ,\tTrailers \r\n"));
  CHECK(takes("TE: gzip\r\nTE: trailers\r\n"));
  CHECK_FALSE(takes(""));
  CHECK_FALSE(takes("TE: \r\n"));
  CHECK_FALSE(takes("TE: trailer\r\n"));
  CHECK_FALSE(takes("TE: gzip, x;trailers=1, ,\r\n"));
  CHECK_FALSE(takes("Trailer: trailers\r\n"));
  CHECK_FALSE(parse("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")->takes_trailers);
}

TEST_CASE("methods are told apart by case") {
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n")->method == method::get);
  CHECK(parse("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")->method == method::head);
  CHECK(parse("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n")->method == method::remove);
  CHECK(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")->method == method::options);
  CHECK(parse("get / HTTP/1.1\r\nHost: a\r\n\r\n")->method == method::other);
  CHECK(parse("BREW / HTTP/1.1\r\nHost: a\r\n\r\n")->method_name == "BREW");
}

TEST_CASE("keep-alive follows version and Connection") {
  CHECK(parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n")->keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n")->keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.0\r\n\r\n")->keep_alive);
  CHECK(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")->keep_alive);
}

TEST_CASE("a body whose end is in doubt is refused") {
  for (const char* lines :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5, 6\r\n",
        "Content-Length: -5\r\n", "Content-Length: +5\r\n", "Content-Length: 5x\r\n",
        "Content-Length:\r\n", "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\nContent-Length: 5\r\n", "Transfer-Encoding:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: \r\n",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
        "Transfer-Encoding:\r\n \r\nContent-Length: 5\r\n"}) {
    CAPTURE(lines);
    CHECK(status_of(put_with(lines)) == 400);
  }
  CHECK(status_of("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
}

TEST_CASE("the same length twice is one length, and a large one is no error of the head") {
  CHECK(parse(put_with("Content-Length: 5\r\nContent-Length: 5\r\n"))->content_length == 5);
  CHECK(parse(put_with("Content-Length: 18446744073709551615\r\n"))->content_length == UINT64_MAX);
}

TEST_CASE("a transfer coding other than chunked is not implemented") {
  CHECK(status_of(put_with("Transfer-Encoding: gzip\r\n")) == 501);
  CHECK(status_of(put_with("Transfer-Encoding: gzip, chunked\r\n")) == 501);
  CHECK(status_of(put_with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")) == 501);
  CHECK(status_of(put_with("Transfer-Encoding: Chunked\r\n")) == 200);
  CHECK(parse(put_with("Transfer-Encoding: chunked\r\n"))->chunked);
}

TEST_CASE("malformed heads are refused") {
  for (const char* head :
       {"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nIf-Match:\r\n\r\n"}) {
    CAPTURE(head);
    CHECK(status_of(head) >= 400);
  }
  CHECK(status_of("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
  CHECK(status_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == 505);
  CHECK(status_of("GET / HTTP/1.9\r\nHost: a\r\n\r\n") == 505);
}

TEST_CASE("only one expectation is known, and HTTP/1.0 has none") {
  CHECK(status_of(put_with("Expect: 200-ok\r\n")) == 417);
  CHECK(status_of(put_with("Expect: 100-continue, x\r\n")) == 417);
  CHECK_FALSE(parse("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")->expects_continue);
}

}  // namespace
