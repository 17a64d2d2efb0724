#include "conditions.hpp"

#include <doctest/doctest.h>


namespace {

using namespace sluiced;

const validators present{.etag = "\"a\"", .modified_seconds = 784'111'777};
const std::string at_change = "Sun, 06 Nov 1994 08:49:37 GMT";
const std::string before_change = "Sun, 06 Nov 1994 08:49:36 GMT";

verdict with_match(std::string field, const validators* current) {
  conditions given;
  given.if_match = std::move(field);
  return evaluate(given, request_kind::changes, current);
}

verdict with_none_match(std::string field, request_kind kind, const validators* current) {
  conditions given;
  given.if_none_match = std::move(field);
  return evaluate(given, kind, current);
}

TEST_CASE("without conditions everything proceeds") {
  CHECK(evaluate({}, request_kind::reads, &present) == verdict::proceed);
  CHECK(evaluate({}, request_kind::changes, nullptr) == verdict::proceed);
}

TEST_CASE("If-Match compares strongly and a star asks for any content") {
  CHECK(with_match("\"a\"", &present) == verdict::proceed);
  CHECK(with_match("\"x\", \"a\"", &present) == verdict::proceed);
  CHECK(with_match("\"x\"", &present) == verdict::failed);
  CHECK(with_match("W/\"a\"", &present) == verdict::failed);
  CHECK(with_match("*", &present) == verdict::proceed);
  CHECK(with_match("*", nullptr) == verdict::failed);
  CHECK(with_match("\"a\"", nullptr) == verdict::failed);
}

TEST_CASE("If-None-Match compares weakly; a read is not modified, a change fails") {
  CHECK(with_none_match("\"a\"", request_kind::reads, &present) == verdict::not_modified);
  CHECK(with_none_match("W/\"a\"", request_kind::reads, &present) == verdict::not_modified);
  CHECK(with_none_match("\"b\", \"a\"", request_kind::changes, &present) == verdict::failed);
  CHECK(with_none_match("*", request_kind::changes, &present) == verdict::failed);
  CHECK(with_none_match("*", request_kind::changes, nullptr) == verdict::proceed);
  CHECK(with_none_match("\"b\"", request_kind::reads, &present) == verdict::proceed);
}

TEST_CASE("a list that is no list of entity tags is malformed") {
  for (const char* list :
       {"a", "\"a", "\"a\" \"b\"", "w/\"a\"", ",", "\"a\",b", "*, \"a\"", "\"a b\""}) {
    CAPTURE(list);
    CHECK(match_tags(list, "\"a\"", comparison::weak) == tag_match::malformed);
  }
}

TEST_CASE("empty elements of a list and commas inside of tags are allowed") {
  CHECK(match_tags(", \"x\",, \"a\" ,", "\"a\"", comparison::strong) == tag_match::yes);
  CHECK(match_tags("\"x,a\"", "\"x,a\"", comparison::strong) == tag_match::yes);
  CHECK(match_tags("\"x,\"", "\"a\"", comparison::strong) == tag_match::no);
}

TEST_CASE("dates decide only where no entity tag does") {
  conditions given;
  given.if_unmodified_since = before_change;
  CHECK(evaluate(given, request_kind::changes, &present) == verdict::failed);
  CHECK(evaluate(given, request_kind::changes, nullptr) == verdict::proceed);
  given.if_match = "\"a\"";
  CHECK(evaluate(given, request_kind::changes, &present) == verdict::proceed);

  given = {};
  given.if_modified_since = at_change;
  CHECK(evaluate(given, request_kind::reads, &present) == verdict::not_modified);
  CHECK(evaluate(given, request_kind::changes, &present) == verdict::proceed);
  given.if_none_match = "\"b\"";
  CHECK(evaluate(given, request_kind::reads, &present) == verdict::proceed);
  given = {};
  given.if_modified_since = before_change;
  CHECK(evaluate(given, request_kind::reads, &present) == verdict::proceed);
  given.if_modified_since = "yesterday";
  CHECK(evaluate(given, request_kind::reads, &present) == verdict::proceed);
}

TEST_CASE("If-Range names the present content, strongly") {
  const std::int64_t later = present.modified_seconds + 5;
  conditions given;
  CHECK(range_applies(given, present, later));
  given.if_range = "\"a\"";
  CHECK(range_applies(given, present, later));
  given.if_range = "W/\"a\"";
  CHECK_FALSE(range_applies(given, present, later));
  given.if_range = at_change;
  CHECK(range_applies(given, present, later));
  CHECK_FALSE(range_applies(given, present, present.modified_seconds));
  given.if_range = before_change;
  CHECK_FALSE(range_applies(given, present, later));
}

TEST_CASE("inode, size and time of change each make another entity tag") {
  const sluice::file_info info{.bytes = 1, .inode = 2, .modified_ns = 1'500'000'000};
  CHECK(validators_of(info).etag == "\"2-1-59682f00\"");
  CHECK(validators_of(info).modified_seconds == 1);
  CHECK(validators_of({.bytes = 1, .inode = 2, .modified_ns = -1}).modified_seconds == -1);
}

}  // namespace
