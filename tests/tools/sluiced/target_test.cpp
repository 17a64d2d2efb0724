#include "target.hpp"

#include <doctest/doctest.h>

namespace {

using namespace sluiced;

int status_of(std::string_view request_target) {
  const auto parsed = parse_target(request_target);
  return parsed ? 200 : parsed.error().status;
}

TEST_CASE("a path is decoded once and loses its slashes at the ends") {
  CHECK(parse_target("/a/b%20c.txt")->path == "a/b c.txt");
  CHECK(parse_target("/a%2541")->path == "a%41");
  CHECK(parse_target("/%e4%BD%a0")->path == "\xe4\xbd\xa0");
}

TEST_CASE("the root and a trailing slash name a directory") {
  CHECK(parse_target("/")->directory);
  CHECK(parse_target("/")->path.empty());
  CHECK(parse_target("/a/b/")->directory);
  CHECK(parse_target("/a/b/")->path == "a/b");
  CHECK_FALSE(parse_target("/a/b")->directory);
}

TEST_CASE("the query is ignored and the absolute form is accepted") {
  CHECK(parse_target("/a?b=c/../d")->path == "a");
  CHECK(parse_target("http://host:80/a/b?c")->path == "a/b");
  CHECK(parse_target("HTTPS://host/a")->path == "a");
  CHECK(parse_target("http://host")->directory);
  CHECK(parse_target("http://host?a/b")->path.empty());
}

TEST_CASE("what is no request-target is malformed") {
  for (const char* text :
       {"", "a", "*", "host:443", "/a#b", "/a%", "/a%4", "/a%zz", "/%4g", "?a"}) {
    CAPTURE(text);
    CHECK(status_of(text) == 400);
  }
}

TEST_CASE("names that lead out of the root or that no file may have are forbidden") {
  for (const char* text : {"/../x", "/%2e%2e/x", "/a/../../x", "/a/..", "/./x", "/a/.", "/a%00b",
                           "/%2fetc", "/a%2fb", "/a%5cb", "/a\\b", "//x", "/a//b", "/a//", "/a%0ab",
                           "/a%7f", "/%2E%2e", "/.sluice-tmp-1", "/a/%2esluice-tmp-1/b"}) {
    CAPTURE(text);
    CHECK(status_of(text) == 403);
  }
}

TEST_CASE("a name may have 255 bytes and a path 4095") {
  CHECK(status_of("/" + std::string(255, 'a')) == 200);
  CHECK(status_of("/" + std::string(256, 'a')) == 403);
  std::string longest;
  for (int i = 0; i < 16; ++i) longest += "/" + std::string(255, 'a');
  CHECK(status_of(longest) == 200);
  CHECK(status_of(longest + "/b") == 414);
}

TEST_CASE("names with dots that are ordinary names are allowed") {
  CHECK(status_of("/...") == 200);
  CHECK(status_of("/.hidden/..a") == 200);
}

TEST_CASE("what lies beneath /.sluice belongs to the server, however it is written") {
  CHECK(parse_target("/.sluice/metrics")->reserved);
  CHECK(parse_target("/.sluice")->reserved);
  CHECK(parse_target("/%2esluice/metrics")->reserved);
  CHECK_FALSE(parse_target("/.sluice2/a")->reserved);
  CHECK_FALSE(parse_target("/a/.sluice")->reserved);
}

TEST_CASE("a path splits at its last slash") {
  CHECK(split_last("a/b/c").parent == "a/b");
  CHECK(split_last("a/b/c").name == "c");
  CHECK(split_last("c").parent.empty());
  CHECK(split_last("c").name == "c");
}

TEST_CASE("an encoded path decodes to itself") {
  const std::string path = "a b/%41/\xff?#[]";
  CHECK(encode_path(path) == "/a%20b/%2541/%FF%3F%23%5B%5D");
  CHECK(parse_target(encode_path(path))->path == path);
}

}  // namespace
