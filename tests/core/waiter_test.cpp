#include "core/waiter.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "core/this_scope.hpp"
#include "sluice/engine.hpp"
#include "support/scripted_backend.hpp"

namespace {

using namespace sluice;

struct bench {
  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  waiter waiting{on};
  std::vector<bool> seen;  // what each wait came to
  scope* of = nullptr;

  void turn() { on.turn(0, 100); }
};

task<void> wait(bench& b, int times) {
  b.of = co_await this_scope{};
  for (int i = 0; i < times; ++i) b.seen.push_back(co_await b.waiting.notified());
}
task<void> wait_shielded(bench& b) {
  b.of = co_await this_scope{};
  b.seen.push_back(co_await b.waiting.notified_shielded());
}

scope* start(bench& b, task<void> work) {
  detail::carry(std::move(work), [] {}).handle.resume();
  return b.of;
}

TEST_CASE("a waiter is told in the loop's turn") {
  bench b;
  start(b, wait(b, 2));
  b.waiting.notify();
  CHECK(b.seen.empty());
  b.turn();
  CHECK(b.seen == std::vector{true});
  b.waiting.notify();
  b.turn();
  CHECK(b.seen == std::vector{true, true});
}

TEST_CASE("a notification that comes first is kept, but not counted and may be forgotten") {
  bench b;
  b.waiting.notify();
  b.waiting.notify();
  start(b, wait(b, 1));
  CHECK(b.seen == std::vector{true});
  b.waiting.notify();
  b.waiting.forget();
  start(b, wait(b, 1));
  CHECK(b.seen.size() == 1);
  b.waiting.notify();
  b.turn();
  CHECK(b.seen.size() == 2);
}

TEST_CASE("a notification between the answer and its turn is kept for the next wait") {
  bench b;
  start(b, wait(b, 2));
  b.waiting.notify();
  b.waiting.notify();
  b.turn();
  CHECK(b.seen == std::vector{true, true});
}

TEST_CASE("a cancelled wait says so, a shielded one waits on") {
  bench b;
  start(b, wait(b, 1))->cancel(b.on);
  b.turn();
  CHECK(b.seen == std::vector{false});
  start(b, wait_shielded(b))->cancel(b.on);
  b.turn();
  CHECK(b.seen.size() == 1);
  b.waiting.notify();
  b.turn();
  CHECK(b.seen == std::vector{false, true});
}

TEST_CASE("a kept notification is none the less one after a cancelled wait") {
  bench b;
  start(b, wait(b, 1))->cancel(b.on);
  b.turn();
  b.waiting.notify();
  start(b, wait(b, 1));
  CHECK(b.seen == std::vector{false, true});
}

}  // namespace
