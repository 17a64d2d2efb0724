#include "bitfield.hpp"

#include <doctest/doctest.h>

#include <array>

TEST_CASE("the first piece is the highest bit of the first byte") {
  bt::bitfield of(11);
  of.set(0);
  of.set(10);
  CHECK(of.bytes().size() == 2);
  CHECK(of.bytes()[0] == std::byte{0x80});
  CHECK(of.bytes()[1] == std::byte{0x20});
  CHECK(of.count() == 2);
  CHECK(of.has(10));
  CHECK_FALSE(of.has(9));
}

TEST_CASE("bits behind the last piece are refused") {
  bt::bitfield of(11);
  CHECK(of.assign(std::array{std::byte{0xff}, std::byte{0xe0}}));
  CHECK(of.count() == 11);
  CHECK_FALSE(of.assign(std::array{std::byte{0xff}, std::byte{0xf0}}));
  CHECK_FALSE(of.assign(std::array{std::byte{0xff}, std::byte{0xe1}}));
  bt::bitfield full(8);
  CHECK(full.assign(std::array{std::byte{0xff}}));
}
