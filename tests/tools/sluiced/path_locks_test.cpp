#include "path_locks.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/engine_fixture.hpp"

namespace {

using namespace sluiced;
using namespace std::chrono_literals;

struct room {
  path_locks locks;
  std::atomic<int> inside{0};
  std::atomic<int> inside_max{0};
  std::atomic<int> visits{0};
};

sluice::task<void> visit(sluice::engine& home, room& r, std::string path, int times) {
  for (int i = 0; i < times; ++i) {
    path_locks::turn mine(r.locks, home, path);
    const path_locks::hold alone = co_await mine;
    const int now = r.inside.fetch_add(1) + 1;
    if (now > r.inside_max) r.inside_max = now;
    const auto slept = co_await home.sleep_for(50us);
    --r.inside;
    if (slept) ++r.visits;
  }
}

sluice::task<void> note_turn(sluice::engine& home, path_locks& locks, int who,
                             std::vector<int>& order) {
  path_locks::turn mine(locks, home, "a");
  const path_locks::hold alone = co_await mine;
  const auto slept = co_await home.sleep_for(1ms);
  CHECK(slept.has_value());
  order.push_back(who);
}

sluice::task<void> hold_for(sluice::engine& home, path_locks& locks, std::string path,
                            std::chrono::nanoseconds time, int& ended) {
  path_locks::turn mine(locks, home, path);
  const path_locks::hold alone = co_await mine;
  const auto slept = co_await home.sleep_for(time);
  static_cast<void>(slept);
  ++ended;
}

}  // namespace

TEST_CASE("a path that somebody holds is not to be had at once") {
  path_locks locks;
  std::optional<path_locks::hold> first = locks.try_hold("a");
  REQUIRE(first.has_value());
  CHECK_FALSE(locks.try_hold("a").has_value());
  CHECK(locks.try_hold("b").has_value());
  first.reset();
  CHECK(locks.try_hold("a").has_value());
}

TEST_CASE("one at a time holds a path, whatever engine it runs on") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    room r;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&r, &backend] {
        sluice::engine home = support::make_engine(support::small_knobs(backend));
        for (int i = 0; i < 4; ++i) home.spawn(visit(home, r, "a/b", 50));
        home.run();
      });
    }
    threads.clear();
    CHECK(r.inside_max == 1);
    CHECK(r.visits == 3 * 4 * 50);
  }
}

TEST_CASE("who came first is first") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture e(backend);
    path_locks locks;
    std::vector<int> order;
    for (int who = 0; who < 5; ++who) e->spawn(note_turn(*e, locks, who, order));
    e->run();
    CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
  }
}

TEST_CASE("different paths do not wait for each other") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture e(backend);
    path_locks locks;
    int long_ones = 0;
    int short_ones = 0;
    e->spawn(hold_for(*e, locks, "a", 1h, long_ones));
    e->spawn(hold_for(*e, locks, "b", 1ms, short_ones));
    e->spawn(hold_for(*e, locks, "b", 1ms, short_ones));
    while (short_ones < 2) e->run_once(1s);
    CHECK(long_ones == 0);
    e->cancel_all();
    e->run();
    CHECK(long_ones == 1);
  }
}

TEST_CASE("cancelled tasks that wait get their turns and end") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture e(backend);
    path_locks locks;
    int ended = 0;
    for (int i = 0; i < 4; ++i) e->spawn(hold_for(*e, locks, "a", 1h, ended));
    e->run_once(0ns);
    CHECK(ended == 0);
    e->cancel_all();
    e->run();
    CHECK(ended == 4);
    e->spawn(hold_for(*e, locks, "a", 1ms, ended));  // the path is free again
    e->run();
    CHECK(ended == 5);
  }
}
