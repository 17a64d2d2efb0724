#include "memory/arena.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace {

using namespace sluice;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;

tuning::memory_knobs knobs(std::uint64_t arena, std::uint64_t block, std::uint64_t head,
                           std::uint32_t heads) {
  tuning::memory_knobs k;
  k.arena_bytes = arena;
  k.block_bytes = block;
  k.head_bytes = head;
  k.head_blocks = heads;
  k.huge_pages = tuning::huge_pages_choice::never;
  return k;
}

TEST_CASE("an arena is its heads, rounded up to a block, and as many blocks as fit") {
  struct row {
    tuning::memory_knobs settings;
    std::uint64_t heads;
    std::uint64_t blocks;
  };
  const std::array rows{
      row{knobs(64 * mib, 256 * kib, 8 * kib, 256), 2 * mib, 62 * mib},
      row{knobs(mib, 64 * kib, 4 * kib, 8), 32 * kib, 960 * kib},  // half a block is lost
      row{knobs(mib, 64 * kib, 4 * kib, 16), 64 * kib, 960 * kib},
      row{knobs(mib, 64 * kib, 4 * kib, 17), 68 * kib, 896 * kib},
      row{knobs(mib + 60 * kib, 64 * kib, 4 * kib, 16), 64 * kib, 960 * kib},
      row{knobs(mib, 4 * kib, 4 * kib, 254), 1016 * kib, 8 * kib},  // two blocks: the least
  };
  for (const row& r : rows) {
    const auto made = arena::make(r.settings);
    REQUIRE(made.has_value());
    CHECK(made->heads().size() == r.heads);
    CHECK(made->blocks().size() == r.blocks);
    CHECK(made->blocks().size() % r.settings.block_bytes == 0);
    CHECK(made->all().size() <= r.settings.arena_bytes);
  }
}

TEST_CASE("blocks and heads begin on pages, do not overlap, and are all of the arena") {
  const auto made = arena::make(knobs(mib, 64 * kib, 4 * kib, 8));
  REQUIRE(made.has_value());
  const auto address = [](const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); };
  CHECK(address(made->blocks().data()) % 4096 == 0);
  CHECK(address(made->heads().data()) % 4096 == 0);
  CHECK(made->blocks().data() == made->all().data());
  CHECK(made->heads().data() == made->blocks().data() + made->blocks().size());
  CHECK(made->all().size() == made->blocks().size() + made->heads().size());
}

TEST_CASE("heads that leave no room for two blocks are EINVAL") {
  for (const auto& settings : {
           knobs(mib, 4 * kib, 4 * kib, 255),
           knobs(mib, 512 * kib, 4 * kib, 1),
           knobs(mib, 2 * mib, 4 * kib, 8),
           knobs(mib, 64 * kib, 64 * kib, 1'048'576),
       }) {
    const auto made = arena::make(settings);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == EINVAL);
  }
}

TEST_CASE("the kind of pages follows the wish") {
  auto settings = knobs(mib, 64 * kib, 4 * kib, 8);
  CHECK(arena::make(settings)->pages() == kernel::page_kind::small);
  settings.huge_pages = tuning::huge_pages_choice::automatic;
  CHECK(arena::make(settings).has_value());
  settings.huge_pages = tuning::huge_pages_choice::always;
  const auto reserved = arena::make(settings);
  if (reserved) {
    CHECK(reserved->pages() == kernel::page_kind::reserved_huge);
  } else {
    CHECK(reserved.error().code == ENOMEM);
  }
}

}  // namespace
