#include "sha1.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

std::string hex(const bt::sha1_digest& digest) {
  std::string text;
  for (const std::byte b : digest) {
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) / 16];
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) % 16];
  }
  return text;
}

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("digests are those of FIPS 180, in parts or at once, and again with the same object") {
  CHECK(hex(bt::sha1_of(bytes(""))) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex(bt::sha1_of(bytes("abc"))) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  bt::sha1 hash;
  for (int round = 0; round < 2; ++round) {
    hash.update(bytes("a"));
    hash.update(bytes("bc"));
    CHECK(hex(hash.finish()) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  }
}
