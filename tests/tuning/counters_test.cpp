#include "sluice/counters.hpp"

#include <doctest/doctest.h>

#include <set>
#include <thread>

#include "tuning/counter_values.hpp"

namespace {

using namespace sluice;
using namespace sluice::tuning;

TEST_CASE("every counter has a unique dotted name, a unit and a sentence of help") {
  std::set<std::string_view> names;
  for (const counter_value& c : counter_snapshot()) {
    CAPTURE(c.name);
    CHECK(names.insert(c.name).second);
    CHECK(c.name.starts_with("sluice."));
    CHECK(!c.unit.empty());
    CHECK(c.help.ends_with('.'));
    CHECK(c.value == 0);
  }
  CHECK(names.size() == counter_snapshot().size());
}

TEST_CASE("a snapshot shows what was counted, by name") {
  counters all;
  all.ops.submitted.add();
  all.ops.submitted.add(41);
  all.memory.leases_in_use.add(3);
  all.memory.leases_in_use.subtract(1);
  all.memory.registered_bytes.set(4096);
  const counter_snapshot now = snapshot(all);
  CHECK(*now.get("sluice.ops.submitted") == 42);
  CHECK(*now.get("sluice.memory.leases_in_use") == 2);
  CHECK(*now.get("sluice.memory.registered_bytes") == 4096);
  CHECK(*now.get("sluice.ops.completed") == 0);
  CHECK(now.get("sluice.ops.nothing").error().code == code::unknown_name);
}

TEST_CASE("a snapshot does not change afterwards") {
  counters all;
  const counter_snapshot before = snapshot(all);
  all.loop.turns.add();
  CHECK(*before.get("sluice.loop.turns") == 0);
}

TEST_CASE("the counters of several engines add up") {
  counters first;
  counters second;
  first.http.requests.add(2);
  second.http.requests.add(3);
  counter_snapshot sum;
  sum += snapshot(first);
  sum += snapshot(second);
  CHECK(*sum.get("sluice.http.requests") == 5);
}

TEST_CASE("another thread sees a total grow and never shrink") {
  counters all;
  constexpr std::uint64_t last = 100'000;
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < last; ++i) all.ops.completed.add();
  });
  std::uint64_t seen = 0;
  bool shrank = false;
  while (seen < last) {
    const std::uint64_t now = *snapshot(all).get("sluice.ops.completed");
    shrank = shrank || now < seen;
    seen = now;
  }
  writer.join();
  CHECK_FALSE(shrank);
  CHECK(seen == last);
}

}  // namespace
