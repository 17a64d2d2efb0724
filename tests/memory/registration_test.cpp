#include "memory/registration.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "backend/ring_backend.hpp"
#include "kernel/memory_map.hpp"
#include "support/needs_ring.hpp"

namespace {

using namespace sluice;

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = 1024 * kib;
constexpr std::size_t gib = 1024 * mib;

TEST_CASE("slices are whole huge pages, whole blocks, and fit the kernel's table") {
  struct row {
    std::size_t arena;
    std::size_t block;
    std::size_t slice;
  };
  constexpr std::array rows{
      row{64 * mib, 256 * kib, 2 * mib},    row{mib, 4 * kib, 2 * mib},
      row{32 * gib, 256 * kib, 2 * mib},    row{33 * gib, 256 * kib, 4 * mib},
      row{1024 * gib, 256 * kib, 64 * mib}, row{64 * mib, 2 * mib, 2 * mib},
  };
  for (const row& r : rows) {
    CAPTURE(r.arena);
    const std::size_t slice = slice_bytes_for(r.arena, r.block);
    CHECK(slice == r.slice);
    CHECK(slice % r.block == 0);
    CHECK((r.arena + slice - 1) / slice <= 16'384);
  }
}

struct bench {
  explicit bench(std::size_t arena_bytes = 5 * mib)
      : map(std::move(*kernel::memory_map::make(arena_bytes, kernel::page_wish::small))),
        memory(map.data(), arena_bytes) {
    kernel::capability_table found;
    auto made = ring_backend::make({}, {}, counters, found);
    REQUIRE(made.has_value());
    ring = std::move(*made);
    registered = std::make_unique<registration>(*ring, memory, 64 * kib, counters.memory,
                                                [this](int refusal) { told.push_back(refusal); });
  }

  tuning::counters counters;
  kernel::memory_map map;
  std::span<std::byte> memory;
  std::unique_ptr<ring_backend> ring;
  std::vector<int> told;
  std::unique_ptr<registration> registered;
};

TEST_CASE("a slice is registered at the first use of one of its blocks, and once") {
  bench b;
  REQUIRE(b.registered->open() == 0);
  CHECK(b.registered->slices() == 3);
  CHECK(b.counters.memory.registered_bytes.get() == 0);
  CHECK(b.registered->index_of(b.memory.data() + 2 * mib) == 1);
  CHECK(b.counters.memory.registered_bytes.get() == 2 * mib);
  CHECK(b.registered->index_of(b.memory.data() + 4 * mib - 64 * kib) == 1);
  CHECK(b.counters.memory.registered_bytes.get() == 2 * mib);
  CHECK(b.registered->index_of(b.memory.data()) == 0);
  CHECK(b.registered->index_of(b.memory.data() + 4 * mib) == 2);  // the short one at the end
  CHECK(b.counters.memory.registered_bytes.get() == 5 * mib);
  CHECK(b.told.empty());
}

TEST_CASE("a refusal is told once, and what is not registered stays so") {
  bench b;  // no table opened: every slot is refused
  CHECK(b.registered->index_of(b.memory.data()) == -1);
  CHECK(b.registered->index_of(b.memory.data() + 2 * mib) == -1);
  CHECK(b.registered->index_of(b.memory.data()) == -1);
  CHECK(b.told.size() == 1);
  CHECK(b.counters.memory.registered_bytes.get() == 0);
}

TEST_CASE("an ordinary user's RLIMIT_MEMLOCK registers what fits and no more") {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit small{3 * mib, 3 * mib};
    ::setrlimit(RLIMIT_MEMLOCK, &small);
    if (::geteuid() == 0 && ::setuid(65'534) != 0) ::_exit(2);
    bench b(16 * mib);
    if (b.registered->open() != 0) ::_exit(3);
    const bool first = b.registered->index_of(b.memory.data()) == 0;
    const bool rest = b.registered->index_of(b.memory.data() + 2 * mib) == -1 &&
                      b.registered->index_of(b.memory.data() + 8 * mib) == -1;
    const bool told = b.told == std::vector<int>{ENOMEM};
    const bool kept = b.registered->index_of(b.memory.data() + 64 * kib) == 0;
    ::_exit(first && rest && told && kept ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
