#include "layout.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace {

std::vector<bt::segment> segments(const bt::layout& of, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<bt::segment> all;
  of.for_each(offset, bytes, [&](const bt::segment& s) {
    all.push_back(s);
    return true;
  });
  return all;
}

constexpr std::array<std::uint64_t, 5> files{0, 10, 0, 1, 9};

}  // namespace

TEST_CASE("a range is cut at the borders of files, and empty files have no part in it") {
  const bt::layout of(8, files);
  CHECK(of.total_bytes() == 20);
  CHECK(of.file_offset(3) == 10);
  CHECK(of.file_bytes(4) == 9);
  const auto parts = segments(of, 8, 8);
  REQUIRE(parts.size() == 3);
  CHECK(parts[0].file == 1);
  CHECK(parts[0].offset == 8);
  CHECK(parts[0].bytes == 2);
  CHECK(parts[1].file == 3);
  CHECK(parts[1].bytes == 1);
  CHECK(parts[2].file == 4);
  CHECK(parts[2].offset == 0);
  CHECK(parts[2].bytes == 5);
}

TEST_CASE("every range falls apart into parts of its length, in the order of the files") {
  const bt::layout of(8, files);
  for (std::uint64_t offset = 0; offset < 20; ++offset) {
    for (std::uint64_t bytes = 0; bytes <= 20 - offset; ++bytes) {
      std::uint64_t at = offset;
      for (const bt::segment& s : segments(of, offset, bytes)) {
        CHECK(of.file_offset(s.file) + s.offset == at);
        CHECK(s.bytes > 0);
        CHECK(s.offset + s.bytes <= of.file_bytes(s.file));
        at += s.bytes;
      }
      CHECK(at == offset + bytes);
    }
  }
}

TEST_CASE("the walk ends where the caller says so") {
  const bt::layout of(8, files);
  int calls = 0;
  CHECK_FALSE(of.for_each(0, 20, [&](const bt::segment&) { return ++calls < 2; }));
  CHECK(calls == 2);
}

TEST_CASE("the last piece and the last block are as long as what is left") {
  const std::array<std::uint64_t, 1> one{100'000};
  const bt::layout of(40'000, one);
  CHECK(of.pieces() == 3);
  CHECK(of.bytes_of(0) == 40'000);
  CHECK(of.bytes_of(2) == 20'000);
  CHECK(of.blocks_of(0) == 3);
  CHECK(of.blocks_of(2) == 2);
}

TEST_CASE("what lies in no piece is not contained") {
  const std::array<std::uint64_t, 1> one{100'000};
  const bt::layout of(40'000, one);
  CHECK(of.contains(0, 0, 40'000));
  CHECK(of.contains(2, 19'999, 1));
  CHECK_FALSE(of.contains(3, 0, 1));
  CHECK_FALSE(of.contains(2, 0, 20'001));
  CHECK_FALSE(of.contains(2, 20'000, 1));
  CHECK_FALSE(of.contains(0, 0, 0));
  CHECK_FALSE(of.contains(0, 0xffffffff, 0xffffffff));
}
