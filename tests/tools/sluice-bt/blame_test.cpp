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

namespace {

bt::sha1_digest digest(unsigned value) {
  bt::sha1_digest made{};
  made[0] = std::byte(value);
  return made;
}

}  // namespace

TEST_CASE("who sent a block that differs from the right one is guilty, once, and nobody else") {
  bt::blame b;
  CHECK_FALSE(b.remembers(7));
  b.remember(7, {1, 2, 3, 2, 1, 3},
             {digest(0), digest(9), digest(2), digest(8), digest(4), digest(7)});
  b.remember(8, {4}, {digest(1)});
  CHECK(b.remembers(7));
  const std::vector<bt::sha1_digest> right{digest(0), digest(1), digest(2),
                                           digest(3), digest(4), digest(5)};
  CHECK(b.compare(7, right) == std::vector<bt::source_id>{2, 3});
  CHECK_FALSE(b.remembers(7));
  CHECK(b.compare(7, right).empty());
  CHECK(b.remembers(8));
}

TEST_CASE("the oldest piece is forgotten when there are too many") {
  bt::blame b;
  constexpr std::size_t each = bt::blame::blocks_max / 4;
  const std::vector<bt::source_id> senders(each, 1);
  const std::vector<bt::sha1_digest> sent(each);
  for (std::uint32_t piece = 0; piece < 4; ++piece) b.remember(piece, senders, sent);
  CHECK(b.remembers(0));
  CHECK(b.compare(2, sent).empty());
  b.remember(4, senders, sent);
  CHECK(b.remembers(0));
  b.remember(5, senders, sent);
  CHECK_FALSE(b.remembers(0));
  for (const std::uint32_t piece : {1U, 3U, 4U, 5U}) CHECK(b.remembers(piece));
}
