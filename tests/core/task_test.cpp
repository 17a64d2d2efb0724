#include "sluice/task.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "sluice/engine.hpp"
#include "sluice/result.hpp"
#include "support/engine_fixture.hpp"

namespace {

using namespace sluice;
using support::engine_fixture;

task<int> number(int n) { co_return n; }
task<void> nothing() { co_return; }
task<std::unique_ptr<int>> move_only(int n) { co_return std::make_unique<int>(n); }
task<result<std::string>> failing(int error) { co_return fail(error, "test"); }
task<result<std::string>> text(std::string t) { co_return t; }

// Runs a task that never suspends to its end.
template <class T>
T run(task<T> work) {
  std::optional<T> value;
  detail::carry(std::move(work), [&value](T made) {
    value.emplace(std::move(made));
  }).handle.resume();
  REQUIRE(value.has_value());
  return std::move(*value);
}

TEST_CASE("a task yields its value, whatever type it is of") {
  CHECK(run(number(5)) == 5);
  CHECK(*run(move_only(6)) == 6);
  CHECK(run(failing(EIO)).error().code == EIO);
  CHECK(*run(text("words")) == "words");
  bool ran = false;
  detail::carry(nothing(), [&ran] { ran = true; }).handle.resume();
  CHECK(ran);
}

TEST_CASE("a task does nothing until it is awaited") {
  bool begun = false;
  const auto work = [](bool* flag) -> task<int> {
    *flag = true;
    co_return 1;
  };
  {
    const task<int> never = work(&begun);
    CHECK_FALSE(begun);
  }
  CHECK_FALSE(begun);  // and may be dropped
  CHECK(run(work(&begun)) == 1);
  CHECK(begun);
}

TEST_CASE("a task that is dropped frees what it holds") {
  auto kept = std::make_shared<int>(1);
  {
    const auto work = [](std::shared_ptr<int> held) -> task<int> { co_return *held; };
    task<int> first = work(kept);
    CHECK(kept.use_count() == 2);
    task<int> second = work(kept);
    second = std::move(first);  // frees what it had
    CHECK(kept.use_count() == 2);
    task<int>& itself = second;
    second = std::move(itself);
    CHECK(kept.use_count() == 2);
    task<int> third(std::move(second));
    CHECK(run(std::move(third)) == 1);
  }
  CHECK(kept.use_count() == 1);
}

task<int> sum_of_children() {
  int sum = 0;
  for (int i = 1; i <= 10; ++i) sum += co_await number(i);
  task<int> moved = number(100);
  task<int> again(std::move(moved));
  sum += co_await again;
  co_await nothing();
  co_return sum;
}

TEST_CASE("children are awaited one after the other") { CHECK(run(sum_of_children()) == 155); }

// How deep the stack was when children ran.
struct depth {
  std::uintptr_t low = std::numeric_limits<std::uintptr_t>::max();
  std::uintptr_t high = 0;
  void note() {
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    low = std::min(low, here);
    high = std::max(high, here);
  }
  [[nodiscard]] std::size_t bytes() const { return high - low; }
};

task<int> noting(depth& d, int n) {
  d.note();
  co_return n;
}

task<std::int64_t> many_children(depth& d, int count) {
  std::int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await noting(d, 1);
  co_return sum;
}

TEST_CASE("a million children that end at once do not deepen the stack") {
  depth d;
  CHECK(run(many_children(d, 1'000'000)) == 1'000'000);
  CHECK(d.bytes() < 4096);
}

task<int> sleeping(engine& e, depth& d) {
  [[maybe_unused]] const auto slept = co_await e.sleep_for({});
  d.note();
  co_return 1;
}

task<std::int64_t> mixed_children(engine& e, depth& d) {
  std::int64_t sum = 0;
  for (int i = 0; i < 300; ++i) {
    sum += co_await sleeping(e, d);          // suspends
    sum += co_await many_children(d, 1000);  // does not
  }
  co_return sum;
}

TEST_CASE("children that suspend and children that do not, mixed, do not deepen it either") {
  for (const std::string& backend : support::backends()) {
    engine_fixture f(backend);
    depth d;
    CHECK(f.run(mixed_children(*f, d)) == 300 * 1001);
    CHECK(d.bytes() < 16'384);
  }
}

task<int> nested(engine& e, int levels) {
  if (levels == 0) {
    [[maybe_unused]] const auto slept = co_await e.sleep_for({});
    co_return 0;
  }
  co_return 1 + co_await nested(e, levels - 1);
}

TEST_CASE("a result goes up through many levels") {
  engine_fixture f("pool");
  CHECK(f.run(nested(*f, 500)) == 500);
}

}  // namespace
