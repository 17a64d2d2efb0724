#include "range.hpp"

#include <doctest/doctest.h>

namespace {

using namespace sluiced;

void check_part(std::string_view field, std::uint64_t size, std::uint64_t offset,
                std::uint64_t length) {
  CAPTURE(field);
  const byte_range range = select_range(field, size);
  CHECK(range.kind == range_kind::part);
  CHECK(range.offset == offset);
  CHECK(range.length == length);
}

TEST_CASE("one range of bytes is selected") {
  check_part("bytes=0-0", 10, 0, 1);
  check_part("bytes=2-5", 10, 2, 4);
  check_part("bytes=9-", 10, 9, 1);
  check_part("bytes=-3", 10, 7, 3);
  check_part("BYTES= 1-2 ", 10, 1, 2);
}

TEST_CASE("a range is cut at the end of the file") {
  check_part("bytes=5-100", 10, 5, 5);
  check_part("bytes=-100", 10, 0, 10);
  check_part("bytes=0-99999999999999999999999", 10, 0, 10);
}

TEST_CASE("a range behind the end cannot be satisfied") {
  for (const char* field :
       {"bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"}) {
    CAPTURE(field);
    CHECK(select_range(field, 10).kind == range_kind::unsatisfiable);
  }
  CHECK(select_range("bytes=0-0", 0).kind == range_kind::unsatisfiable);
}

TEST_CASE("what is not one range of bytes means the whole file") {
  for (const char* field :
       {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1",
        "bytes=1 - 2", "bytes=+1-2", "bytes=0x1-2", "bytes=1", "bytes=--1"}) {
    CAPTURE(field);
    const byte_range range = select_range(field, 10);
    CHECK(range.kind == range_kind::whole);
    CHECK(range.length == 10);
  }
  CHECK(select_range("bytes=-5", 0).kind == range_kind::whole);
}

}  // namespace
