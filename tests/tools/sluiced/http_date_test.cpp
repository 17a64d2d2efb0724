#include "http_date.hpp"

#include <doctest/doctest.h>
#include <time.h>

#include <array>
#include <limits>

namespace {

using namespace sluiced;

TEST_CASE("a time is written as IMF-fixdate") {
  CHECK(format_http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  CHECK(format_http_date(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110
  CHECK(format_http_date(-1) == "Wed, 31 Dec 1969 23:59:59 GMT");
  CHECK(format_http_date(951'782'400) == "Tue, 29 Feb 2000 00:00:00 GMT");
}

TEST_CASE("what four digits cannot say becomes the nearest they can") {
  CHECK(format_http_date(253'402'300'799) == "Fri, 31 Dec 9999 23:59:59 GMT");
  CHECK(format_http_date(std::numeric_limits<std::int64_t>::max()) ==
        format_http_date(253'402'300'799));
  CHECK(format_http_date(-62'167'219'200) == "Sat, 01 Jan 0000 00:00:00 GMT");
  CHECK(format_http_date(std::numeric_limits<std::int64_t>::min()) ==
        format_http_date(-62'167'219'200));
}

TEST_CASE("every written time is read back, and is the one of strftime") {
  for (std::int64_t when = -3'000'000'000; when < 10'000'000'000; when += 7'654'321) {
    const std::string text = format_http_date(when);
    CHECK(parse_http_date(text) == when);
    const time_t seconds = when;
    tm parts{};
    ::gmtime_r(&seconds, &parts);
    std::array<char, 64> expected{};
    ::strftime(expected.data(), expected.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    CHECK(text == expected.data());
  }
}

TEST_CASE("all three forms are read, and other text is none") {
  CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784'111'777);
  CHECK(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == 784'111'777);
  CHECK(parse_http_date("Sun Nov  6 08:49:37 1994") == 784'111'777);
  for (const char* text : {"", "tomorrow", "Sun, 06 Nov 1994 08:49:37 CET",
                           "Sun, 06 Nov 1994 08:49:37 GMT+1", "1994-11-06"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_http_date(text).has_value());
  }
}

}  // namespace
