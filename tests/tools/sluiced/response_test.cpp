#include "response.hpp"

#include <doctest/doctest.h>

#include <chrono>

#include "failure.hpp"

namespace {

using namespace sluiced;

constexpr std::int64_t now = 784'111'777;
const std::string date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

TEST_CASE("a refusal says its status and its sentence in the body") {
  const answer a = answer_of({404, "there is no such file"});
  CHECK(a.text == "404 Not Found: there is no such file\n");
  CHECK(format_head(a, connection_field::none, now) ==
        "HTTP/1.1 404 Not Found\r\n" + date +
            "Content-Length: 37\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
}

TEST_CASE("an answer without content has no Content-Length where RFC 9110 forbids it") {
  answer a;
  a.status = 204;
  CHECK(format_head(a, connection_field::close, now) ==
        "HTTP/1.1 204 No Content\r\n" + date + "Connection: close\r\n\r\n");
  a.status = 201;
  CHECK(format_head(a, connection_field::keep_alive, now) ==
        "HTTP/1.1 201 Created\r\n" + date + "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("a described file has the length of its range") {
  answer a;
  a.describes_file = true;
  a.length = 7;
  a.fields = "ETag: \"x\"\r\n";
  CHECK(format_head(a, connection_field::none, now) ==
        "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 7\r\nETag: \"x\"\r\n\r\n");
}

TEST_CASE("a payload with trailers is one chunk, and its receipt follows") {
  answer a;
  a.describes_file = true;
  a.has_trailers = true;
  a.length = 255;
  a.fields = "ETag: \"x\"\r\n";
  CHECK(format_head(a, connection_field::none, now) ==
        "HTTP/1.1 200 OK\r\n" + date +
            "Transfer-Encoding: chunked\r\nTrailer: Sluice-Receipt\r\nETag: \"x\"\r\n\r\nff\r\n");
  sluice::receipt moved;
  moved.bytes = 255;
  CHECK(end_of_payload(moved) ==
        "\r\n0\r\nSluice-Receipt: " + format_receipt(moved, "none") + "\r\n\r\n");
}

TEST_CASE("a busy server says when to come back") {
  CHECK(answer_of({503, "full"}).fields == "Retry-After: 1\r\n");
  CHECK(answer_of({500, "broken"}).fields.empty());
}

TEST_CASE("a receipt says path, reason, copies, operations, times, bytes and durability") {
  sluice::receipt moved;
  moved.path = sluice::path::direct;
  moved.reason = "large enough";
  moved.copies = 1;
  moved.bytes = 5;
  moved.misrouted_bytes = 3;
  moved.ops = 7;
  moved.short_ops = 2;
  moved.first_byte = std::chrono::nanoseconds(1'234'999);
  moved.last_byte = std::chrono::milliseconds(56);
  moved.stored = std::chrono::milliseconds(57);
  moved.durable = std::chrono::milliseconds(60);
  CHECK(format_receipt(moved, "durable") ==
        "path=direct; reason=\"large enough\"; copies=1; misrouted=3; ops=7; short_ops=2; "
        "first_byte_us=1234; last_byte_us=56000; stored_us=57000; durable_us=60000; bytes=5; "
        "durability=durable");
  moved.durable = {};
  CHECK(format_receipt(moved, "unknown").ends_with("durable_us=0; bytes=5; durability=unknown"));
}

TEST_CASE("every status that is answered has its phrase") {
  for (const int status : {200, 201, 204, 206, 304, 400, 403, 404, 405, 408, 409, 411,
                           412, 413, 414, 416, 417, 431, 500, 501, 503, 505, 507}) {
    CAPTURE(status);
    CHECK(reason_phrase(status) != "Unknown");
  }
}

int status_of(int code, step during) {
  return explain(sluice::error{code, "x", ""}, during).status;
}

TEST_CASE("an error means what the step makes of it") {
  CHECK(status_of(ENOENT, step::read) == 404);
  CHECK(status_of(ENOENT, step::place) == 409);
  CHECK(status_of(EISDIR, step::read) == 404);
  CHECK(status_of(EISDIR, step::remove) == 409);
  CHECK(status_of(ENOTDIR, step::place) == 409);
  CHECK(status_of(EINVAL, step::read) == 403);
  CHECK(status_of(ELOOP, step::read) == 403);
  CHECK(status_of(EXDEV, step::place) == 403);
  CHECK(status_of(EACCES, step::place) == 403);
  CHECK(status_of(ENOSPC, step::receive) == 507);
  CHECK(status_of(EDQUOT, step::place) == 507);
  CHECK(status_of(EMFILE, step::read) == 503);
  CHECK(status_of(ETIMEDOUT, step::receive) == 408);
  CHECK(status_of(sluice::code::too_slow, step::receive) == 408);
  CHECK(status_of(sluice::code::durability_unknown, step::place) == 500);
  CHECK(status_of(EIO, step::read) == 500);
}

TEST_CASE("a peer that is gone is told nothing") {
  CHECK(failed({ECONNRESET, "recv", ""}, step::receive).to_nobody);
  CHECK(failed({ECANCELED, "recv", ""}, step::read).to_nobody);
  CHECK_FALSE(failed({ENOSPC, "write", ""}, step::receive).to_nobody);
}

TEST_CASE("an error that nobody foresaw is named") {
  CHECK(explain({EIO, "write", "receive_to_file"}, step::receive).text ==
        "the server failed: write: Input/output error (EIO) in receive_to_file");
}

}  // namespace
