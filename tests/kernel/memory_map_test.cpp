#include "kernel/memory_map.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <utility>

namespace {

using namespace sluice::kernel;

constexpr std::size_t huge = std::size_t{2} << 20;

TEST_CASE("memory is whole huge pages, begins on a page, is zero and can be written") {
  for (const page_wish wish : {page_wish::small, page_wish::huge_if_possible}) {
    const auto map = memory_map::make(huge + 1, wish);
    REQUIRE(map.has_value());
    CHECK(map->bytes() == 2 * huge);
    CHECK(reinterpret_cast<std::uintptr_t>(map->data()) % 4096 == 0);
    CHECK(map->data()[0] == std::byte{});
    std::memset(map->data(), 1, map->bytes());
    if (wish == page_wish::small) CHECK(map->kind() == page_kind::small);
  }
}

TEST_CASE("reserved huge pages are given or refused, never replaced") {
  const auto map = memory_map::make(huge, page_wish::huge_reserved);
  if (map) {
    CHECK(map->kind() == page_kind::reserved_huge);
  } else {
    CHECK(map.error().code == ENOMEM);
  }
}

TEST_CASE("more memory than there are addresses is ENOMEM") {
  const auto map = memory_map::make(std::size_t{1} << 62, page_wish::huge_if_possible);
  REQUIRE_FALSE(map.has_value());
  CHECK(map.error().code == ENOMEM);
}

TEST_CASE("a moved map is freed by its last owner") {
  auto first = memory_map::make(huge, page_wish::small);
  REQUIRE(first.has_value());
  std::byte* data = first->data();
  {
    const memory_map second(std::move(*first));
    CHECK(second.data() == data);
    CHECK(first->data() == nullptr);
    CHECK(::msync(data, 4096, MS_ASYNC) == 0);
  }
  CHECK(::msync(data, 4096, MS_ASYNC) != 0);  // not mapped any more
}

TEST_CASE("a forked child does not have the memory") {
  const auto map = memory_map::make(huge, page_wish::small);
  REQUIRE(map.has_value());
  map->data()[0] = std::byte{1};
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::msync(map->data(), 4096, MS_ASYNC) == 0 ? 1 : 0);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("the limit on locked memory is shown for people") {
  const std::string text = memlock_limit_text();
  CHECK(text.find("(hard ") != std::string::npos);
  CHECK(text.ends_with(')'));
}

}  // namespace
