#include "transfer/received_bytes.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/dies.hpp"
#include "support/seeded_data.hpp"

namespace {

using sluice::received_bytes;

// Memory of two heads and two slots beside one another, as a scatter receive fills it: head 0, slot
// 0, head 1, slot 1, with the pattern of seed 1 in the order of the stream.
struct scattered {
  static constexpr std::size_t head_bytes = 13;
  static constexpr std::size_t slot_bytes = 64;
  std::vector<std::byte> heads = std::vector<std::byte>(2 * head_bytes);
  std::vector<std::byte> slots = std::vector<std::byte>(2 * slot_bytes);
  received_bytes bytes{8};

  scattered() {
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      put(heads.data() + i * head_bytes, head_bytes, offset);
      put(slots.data() + i * slot_bytes, slot_bytes, offset);
    }
  }
  void put(std::byte* at, std::size_t count, std::uint64_t& offset) {
    support::fill_pattern({at, count}, 1, offset);
    bytes.add(at, count);
    offset += count;
  }
};

}  // namespace

TEST_CASE("bytes in pieces are counted, trimmed and dropped") {
  scattered s;
  CHECK(s.bytes.size() == 154);
  CHECK(s.bytes.pieces() == 4);
  CHECK(s.bytes.together(13));
  CHECK_FALSE(s.bytes.together(14));
  s.bytes.trim(80);
  CHECK(s.bytes.size() == 80);
  CHECK(s.bytes.pieces() == 3);
  s.bytes.drop(13);
  CHECK(s.bytes.front() == s.slots.data());
  s.bytes.drop(10);
  CHECK(s.bytes.front() == s.slots.data() + 10);
  CHECK(s.bytes.any_within({s.slots.data() + 63, 1}));
  CHECK_FALSE(s.bytes.any_within({s.slots.data(), 10}));
  s.bytes.drop(57);
  CHECK(s.bytes.size() == 0);
  CHECK(s.bytes.pieces() == 0);
  CHECK(support::dies([&s] { s.bytes.drop(1); }));
}

TEST_CASE("what lies in its place already is not moved") {
  scattered s;
  s.bytes.drop(13);
  CHECK(s.bytes.can_move(s.slots.data(), 64));
  CHECK(s.bytes.move_front(s.slots.data(), 64) == 0);
  CHECK(s.bytes.front() == s.heads.data() + 13);
}

TEST_CASE("a payload that came nine bytes late moves down in its slot") {
  scattered s;
  s.bytes.drop(9 + 13);
  CHECK(s.bytes.can_move(s.slots.data(), 64));
  CHECK(s.bytes.move_front(s.slots.data(), 64) == 64);
  CHECK(support::is_pattern(std::span(s.slots).first(64), 1, 22));
  // The rest is as it was.
  std::vector<std::byte> rest(s.bytes.size());
  CHECK(s.bytes.move_front(rest.data(), rest.size()) == rest.size());
  CHECK(support::is_pattern(rest, 1, 86));
}

TEST_CASE("a move that would overwrite what comes later in the stream is told") {
  scattered s;
  s.bytes.drop(13);
  CHECK_FALSE(s.bytes.can_move(s.slots.data() + 64, 64));  // slot 1 is to be read
  CHECK_FALSE(s.bytes.can_move(s.slots.data(), 65));       // one byte of head 1 into slot 1
  CHECK_FALSE(s.bytes.can_move(s.slots.data() + 1, 63));   // up, over the last byte of slot 0
  CHECK_FALSE(s.bytes.can_move(s.heads.data() + 13, 64));  // over head 1
  CHECK(s.bytes.can_move(s.heads.data(), 13));
  CHECK(s.bytes.can_move(s.slots.data() + 64, 0));
}

TEST_CASE("every move that is allowed gives the stream's bytes and spoils none") {
  for (std::size_t drop = 0; drop < 154; ++drop) {
    for (std::size_t target = 0; target < 128; target += 5) {
      for (std::size_t count = 1; drop + count <= 154; count += 7) {
        scattered s;
        s.bytes.drop(drop);
        if (target + count > 128 || !s.bytes.can_move(s.slots.data() + target, count)) continue;
        s.bytes.move_front(s.slots.data() + target, count);
        REQUIRE(support::is_pattern({s.slots.data() + target, count}, 1, drop));
        std::vector<std::byte> rest(s.bytes.size());
        s.bytes.move_front(rest.data(), rest.size());
        REQUIRE(support::is_pattern(rest, 1, drop + count));
      }
    }
  }
}

TEST_CASE("gathered bytes are one piece, and the rest follows") {
  for (const std::size_t count : {1U, 13U, 14U, 77U, 153U, 154U}) {
    scattered s;
    std::vector<std::byte> into(count);
    s.bytes.gather(into.data(), count);
    CHECK(s.bytes.size() == 154);
    CHECK(s.bytes.front() == into.data());
    CHECK(s.bytes.together(count));
    CHECK(support::is_pattern(into, 1, 0));
    std::vector<std::byte> all(154);
    s.bytes.move_front(all.data(), all.size());
    CHECK(support::is_pattern(all, 1, 0));
  }
}
