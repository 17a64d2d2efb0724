#include "blame.hpp"

#include <doctest/doctest.h>

TEST_CASE("a ban holds for every connection of its origin, also for one that has ended") {
  bt::blame b;
  b.connected(1, "127.0.0.1:1");
  b.connected(2, "127.0.0.1:2");
  CHECK(b.ban_of(1) == nullptr);
  CHECK(b.ban_of("127.0.0.1:1") == nullptr);
  b.ban(1, "it lies");
  b.ban(1, "again");
  b.connected(3, "127.0.0.1:1");
  for (const bt::source_id id : {1U, 3U}) {
    REQUIRE(b.ban_of(id) != nullptr);
    CHECK(*b.ban_of(id) == "it lies");
  }
  CHECK(b.ban_of("127.0.0.1:1") != nullptr);
  CHECK(b.ban_of(2) == nullptr);
}

TEST_CASE("one that was forgotten cannot be banned") {
  bt::blame b;
  b.connected(1, "127.0.0.1");
  b.forget(1);
  b.ban(1, "it lies");
  CHECK(b.ban_of(1) == nullptr);
  CHECK(b.ban_of("127.0.0.1") == nullptr);
}
