#include "transfer/range_parts.hpp"

#include <doctest/doctest.h>

#include <array>

namespace {

using sluice::divide;
using sluice::range_parts;
using sluice::range_to_divide;

constexpr std::uint64_t unit = 512;
constexpr std::uint64_t page = 4096;

struct row {
  range_to_divide range;
  range_parts parts;
};

TEST_CASE("how ranges are divided, row by row") {
  constexpr std::array rows{
      // a file that others may write to: the body has whole pages only
      row{{0, 8192, unit, page, 0, false}, {0, 8192, 0, false}},
      row{{0, 8193, unit, page, 0, false}, {0, 8192, 1, false}},
      row{{1000, 19'000, unit, page, 99'999, false}, {3096, 12'288, 3616, false}},
      row{{512, 7680, unit, page, 0, false}, {3584, 4096, 0, false}},
      row{{100, 50, unit, page, 0, false}, {50, 0, 0, false}},
      row{{4000, 200, unit, page, 0, false}, {96, 0, 104, false}},
      row{{0, 0, unit, page, 0, false}, {0, 0, 0, false}},
      row{{7, 0, unit, page, 0, false}, {0, 0, 0, false}},
      // a file of our own: units do, and its end is padded
      row{{0, 8193, unit, page, 0, true}, {0, 8193, 0, true}},
      row{{512, 7680, unit, page, 0, true}, {0, 7680, 0, false}},
      row{{512, 7681, unit, page, 0, true}, {0, 7681, 0, true}},
      row{{0, 8193, unit, page, 8193, true}, {0, 8193, 0, true}},
      row{{0, 8193, unit, page, 8194, true}, {0, 8192, 1, false}},
      row{{0, 8704, unit, page, 99'999, true}, {0, 8704, 0, false}},
      row{{1000, 19'000, unit, page, 0, true}, {3096, 15'904, 0, true}},
      row{{1000, 100, unit, page, 0, true}, {100, 0, 0, false}},
      row{{512, 488, unit, page, 99'999, true}, {0, 0, 488, false}},
      // units larger than a page
      row{{4096, 20'000, 8192, page, 0, false}, {4096, 8192, 7712, false}},
      row{{0, 8193, 8192, page, 0, true}, {0, 8193, 0, true}},
  };
  for (const row& r : rows) {
    CAPTURE(r.range.offset);
    CAPTURE(r.range.length);
    CAPTURE(r.range.own);
    const range_parts made = divide(r.range);
    CHECK(made.head == r.parts.head);
    CHECK(made.body == r.parts.body);
    CHECK(made.tail == r.parts.tail);
    CHECK(made.padded == r.parts.padded);
  }
}

TEST_CASE("the parts of any range make it up, and the body shares no page with others") {
  for (std::uint64_t offset = 0; offset < 3 * page; offset += 191) {
    for (std::uint64_t length = 0; length < 5 * page; length += 173) {
      for (const bool own : {false, true}) {
        const std::uint64_t file_bytes = offset % 2 == 0 ? 0 : 100 * page;
        const range_parts p = divide({offset, length, unit, page, file_bytes, own});
        REQUIRE(p.head + p.body + p.tail == length);
        if (p.body == 0) continue;
        const std::uint64_t begin = offset + p.head;
        REQUIRE(begin % (own ? unit : page) == 0);
        if (!p.padded) REQUIRE((begin + p.body) % (own ? unit : page) == 0);
        if (p.padded) REQUIRE((own && file_bytes <= begin + p.body));
      }
    }
  }
}

}  // namespace
