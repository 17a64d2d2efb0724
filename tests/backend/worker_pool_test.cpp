#include "backend/worker_pool.hpp"

#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "support/all_given_back.hpp"
#include "support/dies.hpp"
#include "support/scripted_backend.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::comes_true;
using support::request_of;

// Only its wake() is of use here: how often it was called.
class woken_backend final : public backend {
 public:
  bool start(op&) override { return false; }
  void cancel(op&) override {}
  void wait(std::int64_t, op_list&) override {}
  bool calls_at_once(const op_request&) const override { return false; }
  void wake() override { ++wakes; }
  int poll_fd() override { return -1; }
  std::size_t polls_max() const override { return 0; }
  kernel::socket_mode socket_mode() const override { return kernel::socket_mode::blocking; }
  std::string_view name() const override { return "woken"; }

  std::atomic<int> wakes{0};
};

struct bench {
  explicit bench(std::size_t threads) : pool(threads, woken, counters) {}

  // Collects what is answered, until `count` ops are.
  bool collect(std::size_t count) {
    return comes_true([this, count] {
      op_list answered;
      pool.collect(answered);
      while (!answered.empty()) {
        done.push_back(&answered.front());
        answered.pop_front();
      }
      return done.size() >= count;
    });
  }

  support::all_given_back watch;
  woken_backend woken;
  tuning::pool_counters counters;
  worker_pool pool;
  std::vector<op*> done;
};

struct gate {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  bool open = false;
  static std::int64_t pass(void* context) {
    auto& g = *static_cast<gate*>(context);
    std::unique_lock lock(g.mutex);
    ++g.inside;
    g.changed.wait(lock, [&g] { return g.open; });
    return 5;
  }
  void let_go() {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  int count_inside() {
    const std::lock_guard lock(mutex);
    return inside;
  }
};

op_request call_of(std::int64_t (*function)(void*), void* context = nullptr) {
  op_request r = request_of(op_kind::call);
  r.function = function;
  r.data = context;
  return r;
}

TEST_CASE("threads are made when there is work, one at first, and end with the pool") {
  bench b(4);
  CHECK(b.counters.threads.get() == 0);
  op o(call_of([](void*) -> std::int64_t { return 7; }));
  REQUIRE(b.pool.submit(o));
  CHECK(o.on_worker);
  CHECK(b.counters.threads.get() == 1);
  REQUIRE(b.collect(1));
  CHECK(o.result == 7);
  CHECK_FALSE(o.on_worker);
}

TEST_CASE("an answer wakes a loop that waits, once, and one that is awake not at all") {
  bench b(1);
  std::deque<op> ops;
  const auto submit = [&] {
    REQUIRE(b.pool.submit(ops.emplace_back(call_of([](void*) -> std::int64_t { return 7; }))));
  };
  CHECK(b.pool.may_wait());  // nothing will be answered
  submit();
  REQUIRE(comes_true([&] { return !b.pool.may_wait(); }));
  // It may have been asked in time, and is woken then.
  const int wakes_before = b.woken.wakes;
  CHECK(wakes_before <= 1);
  REQUIRE(b.collect(1));

  gate g;
  REQUIRE(b.pool.submit(ops.emplace_back(call_of(gate::pass, &g))));
  submit();
  submit();
  REQUIRE(comes_true([&] { return g.count_inside() == 1; }));
  CHECK(b.pool.may_wait());
  g.let_go();
  REQUIRE(comes_true([&] { return b.woken.wakes == wakes_before + 1; }));
  REQUIRE(b.collect(4));
  CHECK(b.woken.wakes == wakes_before + 1);

  submit();
  REQUIRE(b.collect(5));  // collect alone: awake
  CHECK(b.woken.wakes == wakes_before + 1);
}

TEST_CASE("an idle thread is used again before another is made") {
  bench b(4);
  op o(call_of([](void*) -> std::int64_t { return 0; }));
  for (std::size_t i = 1; i <= 10; ++i) {
    REQUIRE(b.pool.submit(o));
    REQUIRE(b.collect(i));
    // Told before it waits again: give it the time.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(b.counters.threads.get() <= 3);
  CHECK(b.counters.tasks.get() == 10);
}

TEST_CASE("as many ops run at once as there may be threads, and no more") {
  bench b(3);
  gate g;
  std::deque<op> ops;
  for (int i = 0; i < 9; ++i) REQUIRE(b.pool.submit(ops.emplace_back(call_of(gate::pass, &g))));
  REQUIRE(comes_true([&] { return g.count_inside() == 3; }));
  CHECK(b.counters.threads.get() == 3);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(g.count_inside() == 3);
  g.let_go();
  REQUIRE(b.collect(9));
  CHECK(b.counters.threads.get() == 3);
}

TEST_CASE("ops are taken in the order of their submission") {
  bench b(1);
  std::deque<op> ops;
  for (int i = 0; i < 20; ++i) {
    REQUIRE(b.pool.submit(ops.emplace_back(call_of([](void*) -> std::int64_t { return 0; }))));
  }
  REQUIRE(b.collect(20));
  for (std::size_t i = 0; i < 20; ++i) CHECK(b.done[i] == &ops[i]);
}

TEST_CASE("a queued op is cancelled, a running or answered one is not") {
  bench b(1);
  gate g;
  op running(call_of(gate::pass, &g));
  op queued(call_of(gate::pass, &g));
  REQUIRE(b.pool.submit(running));
  REQUIRE(comes_true([&] { return g.count_inside() == 1; }));
  REQUIRE(b.pool.submit(queued));
  CHECK(b.pool.may_wait());
  const int wakes_before = b.woken.wakes;
  b.pool.cancel(running);
  b.pool.cancel(queued);
  CHECK(b.woken.wakes == wakes_before + 1);
  REQUIRE(b.collect(1));
  CHECK(b.done[0] == &queued);
  CHECK(queued.result == -ECANCELED);
  CHECK(b.pool.may_wait());
  g.let_go();
  REQUIRE(comes_true([&] { return b.woken.wakes > wakes_before + 1; }));
  b.pool.cancel(running);  // answered, not yet collected
  REQUIRE(b.collect(2));
  CHECK(running.result == 5);
}

TEST_CASE("a worker takes no signal of the program") {
  bench b(1);
  static sigset_t blocked;
  op o(call_of([](void*) -> std::int64_t {
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    return 0;
  }));
  REQUIRE(b.pool.submit(o));
  REQUIRE(b.collect(1));
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1}) {
    CHECK(::sigismember(&blocked, signal) == 1);
  }
  sigset_t ours;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  CHECK(::sigismember(&ours, SIGTERM) == 0);  // and the loop's thread takes them as before
}

TEST_CASE("submissions, cancels and answers race without losing an op") {
  bench b(4);
  constexpr std::size_t count = 5000;
  std::deque<op> ops;
  for (std::size_t i = 0; i < count; ++i) {
    op& o = ops.emplace_back(call_of([](void*) -> std::int64_t { return 1; }));
    REQUIRE(b.pool.submit(o));
    if (i % 3 == 0) b.pool.cancel(ops[i - i % 7]);
  }
  REQUIRE(b.collect(count));
  CHECK(b.done.size() == count);
  for (const op& o : ops) {
    CHECK((o.result == 1 || o.result == -ECANCELED));
  }
}

TEST_CASE("a pool destroyed with an op in its queue breaks an assertion") {
  CHECK(support::dies([] {
    auto* g = new gate;
    auto* running = new op(call_of(gate::pass, g));
    auto* queued = new op(call_of(gate::pass, g));
    woken_backend woken;
    tuning::pool_counters counters;
    worker_pool pool(1, woken, counters);
    [[maybe_unused]] const bool one = pool.submit(*running);
    while (g->count_inside() == 0) std::this_thread::yield();
    [[maybe_unused]] const bool two = pool.submit(*queued);
  }));
}

}  // namespace
