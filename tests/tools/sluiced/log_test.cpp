#include "log.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {

using namespace sluiced;
using namespace std::chrono_literals;

const rare_log::clock::time_point start{1h};

}  // namespace

TEST_CASE("a kind is said at once, then once a minute with what was kept back") {
  rare_log log;
  CHECK(log.due("a", start) == 0);
  for (int i = 1; i < 60; ++i) CHECK_FALSE(log.due("a", start + i * 1s));
  CHECK(log.due("a", start + 60s) == 59);
  CHECK_FALSE(log.due("a", start + 119s));
  CHECK(log.due("a", start + 120s) == 1);
  CHECK(log.due("a", start + 240s) == 0);
}

TEST_CASE("kinds do not keep each other back") {
  rare_log log;
  CHECK(log.due("a", start) == 0);
  CHECK(log.due("b", start + 1s) == 0);
  CHECK_FALSE(log.due("a", start + 2s));
}

TEST_CASE("of too many kinds the one said longest ago is forgotten") {
  rare_log log;
  for (std::size_t i = 0; i < rare_log::kinds_max; ++i)
    CHECK(log.due(std::to_string(i), start + i * 1s) == 0);
  CHECK(log.due("one more", start + 40s) == 0);
  CHECK(log.due("0", start + 41s) == 0);   // forgotten, so said again
  CHECK_FALSE(log.due("2", start + 42s));  // remembered
  CHECK_FALSE(log.due("one more", start + 43s));
}

TEST_CASE("a line that cannot be written is no failure") {
  std::FILE* full = std::fopen("/dev/full", "w");
  REQUIRE(full != nullptr);
  print_line(full, "nobody will read this");
  CHECK(std::ferror(full) != 0);
  std::fclose(full);
}
