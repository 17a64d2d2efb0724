#include "sluice/engine.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/engine_core.hpp"
#include "kernel/clock.hpp"
#include "sluice/file.hpp"
#include "sluice/stream.hpp"
#include "support/dies.hpp"
#include "support/engine_fixture.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using support::backends;
using support::engine_fixture;
using support::pattern;
using support::stream_pair;

task<int> number(int n) { co_return n; }

task<result<std::size_t>> sleep(engine& e, std::chrono::nanoseconds duration) {
  co_return co_await e.sleep_for(duration);
}

task<result<std::size_t>> receive(engine& e, int fd, std::span<std::byte> into,
                                  std::chrono::nanoseconds timeout = {}) {
  result<stream> s = stream::adopt(e, ::dup(fd));
  REQUIRE(s.has_value());
  co_return co_await s->recv(into, recv_mode::full, timeout);
}

// ---- tasks

TEST_CASE("a task begins at once and its value goes to the callback") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    int got = 0;
    f->start(number(5), [&](int n) { got = n; });
    CHECK(got == 5);  // it never suspended
    bool done = false;
    f->start(
        [](engine& e) -> task<void> {
          [[maybe_unused]] const auto slept = co_await e.sleep_for(1ms);
        }(*f),
        [&] { done = true; });
    CHECK_FALSE(done);
    CHECK(f->task_count() == 1);
    f->run();
    CHECK(done);
    CHECK(f->task_count() == 0);
  }
}

TEST_CASE("tasks begin tasks, from within, from callbacks and from posts") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    int ended = 0;
    const auto count = [&](const auto&) { ++ended; };
    f->start(sleep(*f, 1ms), [&](const auto&) {
      ++ended;
      f->start(sleep(*f, 1ms), count);
      f->post([&] { f->start(sleep(*f, 1ms), count); });
    });
    f->spawn([](engine& e, int& n) -> task<void> {
      e.start(sleep(e, 1ms), [&n](const auto&) { ++n; });
      e.start(number(1), [&n](int) { ++n; });
      co_return;
    }(*f, ended));
    f->run();
    CHECK(ended == 5);
  }
}

TEST_CASE("a cancelled task's op ends with ECANCELED, and so does all it tries then") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    const stream_pair pair = stream_pair::tcp();
    std::vector<int> errors;
    std::byte byte{};
    const task_handle waiting =
        f->spawn([](engine& e, int fd, std::byte& into, std::vector<int>& seen) -> task<void> {
          seen.push_back((co_await receive(e, fd, {&into, 1})).error().code);
          seen.push_back((co_await e.sleep_for(1h)).error().code);
          seen.push_back((co_await e.wait_readable(fd)).error().code);
          const auto call = [](void*) -> std::int64_t { return 0; };
          seen.push_back((co_await e.run_on_worker(call, nullptr)).error().code);
        }(*f, pair.ours(), byte, errors));
    int other = 0;
    f->start(sleep(*f, 5ms), [&](const result<std::size_t>& r) { other = r ? 1 : -1; });
    f->run_once(1ms);
    CHECK(errors.empty());
    f->cancel(waiting);
    CHECK(errors.empty());  // told in the engine's turn
    f->run();
    CHECK(errors == std::vector<int>(4, ECANCELED));
    CHECK(other == 1);   // a stranger is left alone
    f->cancel(waiting);  // has ended
    f->cancel(task_handle{});
    f->cancel(task_handle{12'345});
  }
}

TEST_CASE("a task may cancel itself and others from within a turn") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    int cancelled = 0;
    const auto count = [&](const result<std::size_t>& r) {
      if (!r && r.error().code == ECANCELED) ++cancelled;
    };
    for (int i = 0; i < 5; ++i) f->start(sleep(*f, 1h), count);
    f->spawn([](engine& e) -> task<void> {
      [[maybe_unused]] const auto slept = co_await e.sleep_for(1ms);
      e.cancel_all();
      CHECK((co_await e.sleep_for(1ms)).error().code == ECANCELED);
    }(*f));
    f->run();
    CHECK(cancelled == 5);
  }
}

TEST_CASE("an engine destroyed drains a task that waits for its peer") {
  for (const std::string& backend : backends()) {
    const stream_pair pair = stream_pair::tcp();
    std::vector<int> errors;
    std::byte byte{};
    {
      engine_fixture f(backend);
      for (int i = 0; i < 3; ++i) {
        f->start(receive(*f, pair.ours(), {&byte, 1}),
                 [&](const result<std::size_t>& r) { errors.push_back(r.error().code); });
      }
      f->start(sleep(*f, 1h),
               [&](const result<std::size_t>& r) { errors.push_back(r.error().code); });
      f->run_once(1ms);
    }
    CHECK(errors == std::vector<int>(4, ECANCELED));
  }
}

TEST_CASE("an engine destroyed at once drains a task whose op was never handed over") {
  for (const std::string& backend : backends()) {
    const stream_pair pair = stream_pair::tcp();
    std::byte byte{};
    int error = 0;
    {
      engine e = support::make_engine(support::small_knobs(backend));
      e.start(receive(e, pair.ours(), {&byte, 1}),
              [&](const result<std::size_t>& r) { error = r.error().code; });
    }
    CHECK(error == ECANCELED);
  }
}

TEST_CASE("an engine destroyed waits for the call that a worker is in") {
  for (const std::string& backend : backends()) {
    static std::atomic<bool> begun;
    static std::atomic<bool> ended;
    begun = ended = false;
    const auto call = [](void*) -> std::int64_t {
      begun = true;
      std::this_thread::sleep_for(20ms);
      ended = true;
      return 7;
    };
    result<std::size_t> got = 0;
    {
      engine e = support::make_engine(support::small_knobs(backend));
      e.start(
          [](engine& on, std::int64_t (*function)(void*)) -> task<result<std::size_t>> {
            co_return co_await on.run_on_worker(function, nullptr);
          }(e, call),
          [&](result<std::size_t> r) { got = r; });
      while (!begun) e.run_once(1ms);
    }
    CHECK(ended);
    CHECK(got == 7U);
  }
}

TEST_CASE("a task that begins another while it is drained has that one drained as well") {
  for (const std::string& backend : backends()) {
    int ended = 0;
    {
      engine e = support::make_engine(support::small_knobs(backend));
      e.start(sleep(e, 1h), [&](const auto&) {
        ++ended;
        e.start(sleep(e, 1h), [&](const auto&) { ++ended; });
      });
    }
    CHECK(ended == 2);
  }
}

TEST_CASE("an engine can be moved while its tasks run") {
  for (const std::string& backend : backends()) {
    engine first = support::make_engine(support::small_knobs(backend));
    bool ended = false;
    first.start(
        [](engine& e) -> task<void> {
          [[maybe_unused]] const auto slept = co_await e.sleep_for(2ms);
        }(first),
        [&] { ended = true; });
    engine second(std::move(first));
    second.run();
    CHECK(ended);
  }
}

// ---- running

TEST_CASE("run ends when no task is left, at once when there is none") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    f->run();
    const std::int64_t before = kernel::now_ns();
    f->spawn(sleep(*f, 2ms));
    f->spawn(sleep(*f, 5ms));
    f->run();
    CHECK(kernel::now_ns() - before >= 5'000'000);
  }
}

TEST_CASE("one turn waits at most as long as it may") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    f->run_once(0ns);
    std::int64_t before = kernel::now_ns();
    f->run_once(5ms);  // less when it is interrupted
    CHECK(kernel::now_ns() - before < 5'000'000'000);
    f->spawn(sleep(*f, 2ms));
    before = kernel::now_ns();
    while (f->task_count() > 0) f->run_once(-1ns);  // the timer ends the wait
    CHECK(kernel::now_ns() - before < 5'000'000'000);
  }
}

TEST_CASE("another thread stops an engine that waits, and it can run again") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    const task_handle sleeper = f->spawn(sleep(*f, 1h));
    for (int round = 0; round < 10; ++round) {
      std::jthread stopper([&] {
        std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
        f->stop();
      });
      f->run();
      CHECK(f->task_count() == 1);
    }
    f->cancel(sleeper);
    f->run();
    CHECK(f->task_count() == 0);
  }
}

TEST_CASE("a stop from within ends the run after its turn") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    f->spawn(sleep(*f, 1h));
    f->start(sleep(*f, 1ms), [&](const auto&) { f->stop(); });
    f->run();
    CHECK(f->task_count() == 1);
  }
}

TEST_CASE("posts of many threads all run, on the engine's thread, each thread's in order") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    constexpr int threads_count = 3;
    constexpr int posts_each = 1000;
    const std::thread::id ours = std::this_thread::get_id();
    std::vector<int> next(threads_count, 0);
    int wrong = 0;
    int total = 0;
    std::vector<std::jthread> threads;
    for (int t = 0; t < threads_count; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < posts_each; ++i) {
          f->post([&, t, i] {
            if (next[static_cast<std::size_t>(t)]++ != i) ++wrong;
            if (std::this_thread::get_id() != ours) ++wrong;
            ++total;
          });
        }
      });
    }
    const std::int64_t end = kernel::now_ns() + 20'000'000'000;
    while (total < threads_count * posts_each && kernel::now_ns() < end) f->run_once(1s);
    CHECK(total == threads_count * posts_each);
    CHECK(wrong == 0);
    CHECK(f.counter("sluice.mailbox.posts") == 3000);
  }
}

TEST_CASE("a posted function may be one that can only be moved") {
  engine_fixture f("pool");
  auto value = std::make_unique<int>(3);
  int got = 0;
  f->post([value = std::move(value), &got] { got = *value; });
  f->run_once(1s);
  CHECK(got == 3);
}

TEST_CASE("a call on a worker gives its result or its error") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    const auto call = [&](std::int64_t value) {
      return f.run([](engine& e, std::int64_t v) -> task<result<std::size_t>> {
        const auto same = [](void* at) { return *static_cast<std::int64_t*>(at); };
        co_return co_await e.run_on_worker(same, &v);
      }(*f, value));
    };
    CHECK(call(42) == 42U);
    CHECK(call(-ENOSPC).error().code == ENOSPC);
    CHECK(std::string_view(call(-ENOSPC).error().op) == "call");
  }
}

TEST_CASE("blocks and heads are leased by size, and a wait for one may time out") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    f.run([](engine& e) -> task<void> {
      const result<lease> block = co_await e.acquire_block();
      CHECK(block->size() == 65'536);
      std::vector<lease> heads;
      for (int i = 0; i < 8; ++i) {
        result<lease> head = co_await e.acquire_head();
        CHECK(head->size() == 4096);
        heads.push_back(std::move(*head));
      }
      const result<lease> none = co_await e.acquire_head(2ms);
      CHECK(none.error().code == ETIMEDOUT);
    }(*f));
    CHECK(f.counter("sluice.memory.leases_waited") == 1);
  }
}

TEST_CASE("an engine's knobs are its own copy, and live ones can be set") {
  knobs settings = support::small_knobs("pool");
  engine e = support::make_engine(settings);
  REQUIRE(settings.set("sluice.receive.depth", "9").has_value());
  CHECK(e.settings().get("sluice.receive.depth") == "16");
  CHECK(e.set_knob("sluice.receive.depth", "8").has_value());
  CHECK(e.settings().get("sluice.receive.depth") == "8");
  CHECK(e.set_knob("sluice.backend", "pool").error().code == code::start_only);
}

TEST_CASE("an engine says what it is and what it found") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    CHECK(f->backend_name() == backend);
    bool found = false;
    for (const capability& c : f->capabilities()) {
      CHECK(c.reason.empty() == c.present);
      if (c.name == "openat2") found = true;
    }
    CHECK(found);
  }
}

TEST_CASE("run returns when dropped files are closed and their temporary names gone") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend, {{"sluice.capabilities.hidden", "unnamed_files"}});
    const support::temp_dir dir;
    int fd = -1;
    f->spawn([](engine& e, std::string path, int& number) -> task<void> {
      result<directory> in = co_await directory::open(e, path);
      const result<file> made = co_await in->create();
      number = made->fd();
    }(*f, dir.path().string(), fd));
    f->run();
    REQUIRE(fd >= 0);
    CHECK(::fcntl(fd, F_GETFD) < 0);
    CHECK(std::filesystem::is_empty(dir.path()));
  }
}

// ---- threads

TEST_CASE("an engine may be run by another thread than the one that made it") {
  for (const std::string& backend : backends()) {
    const stream_pair pair = stream_pair::tcp();
    engine e = support::make_engine(support::small_knobs(backend));
    std::array<std::byte, 10> into{};
    bool ended = false;
    e.start(receive(e, pair.ours(), into), [&](const result<std::size_t>& r) { ended = r == 10U; });
    REQUIRE(support::send_all(pair.theirs(), pattern(4, 0, 10)));
    std::jthread([&] { e.run(); }).join();
    CHECK(ended);
    CHECK(e.task_count() == 0);
  }  // destroyed here, with nothing left to drain
}

TEST_CASE("an engine with a ring that a second thread runs says so and ends the process") {
  if (std::ranges::find(backends(), "ring") == backends().end()) return;
  const std::string said = support::last_words([] {
    result<engine> e =
        engine::create(support::small_knobs("ring"), [](log_level level, std::string_view text) {
          if (level == log_level::fatal)
            std::fprintf(stderr, "log: %s\n", std::string(text).c_str());
        });
    e->run_once(1ms);
    std::jthread([&] { e->run_once(1ms); }).join();
  });
  const std::string why = "io_uring_enter: EEXIST: an engine is for the thread that first ran it\n";
  CHECK(said == "log: " + why + "sluice: " + why);
}

TEST_CASE("an engine whose ring was closed under it says so and ends the process") {
  if (std::ranges::find(backends(), "ring") == backends().end()) return;
  const std::string said = support::last_words([] {
    const int first = ::dup(0);
    ::close(first);
    engine e = support::make_engine(support::small_knobs("ring"));
    for (int fd = first; fd < first + 16; ++fd) ::close(fd);
    e.run_once(1ms);
  });
  CHECK(said ==
        "sluice: io_uring_enter: EBADF: the ring's descriptor was closed by somebody else\n");
}

// ---- a guest in another loop

// A bare epoll loop. It knows the engine by its descriptor alone and calls process only when that
// is readable.
class host {
 public:
  explicit host(engine& e, std::size_t budget = 100)
      : engine_(e), budget_(budget), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    const int fd = e.poll_fd();
    REQUIRE(fd >= 0);
    CHECK(e.poll_fd() == fd);  // one and the same
    REQUIRE(::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted) == 0);
  }
  ~host() { ::close(epoll_); }
  host(const host&) = delete;
  host& operator=(const host&) = delete;

  // False when the engine lets it sleep for too long: it was not called back.
  template <class Predicate>
  bool until(Predicate holds, int limit_ms = 5000) {
    while (!holds()) {
      epoll_event event{};
      const int ready = ::epoll_wait(epoll_, &event, 1, limit_ms);
      // A ring that is being taken down interrupts its owner's calls.
      if (ready < 0 && errno == EINTR) continue;
      if (ready != 1) return false;
      ++calls_;
      const std::size_t ran = engine_.process(budget_);
      CHECK(ran <= budget_);
    }
    return true;
  }
  // Calls until the engine is quiet; false when it never is.
  bool settles() {
    const int limit = calls_ + 200;
    until([this, limit] { return calls_ >= limit; }, 5);
    return calls_ < limit;
  }
  [[nodiscard]] int calls() const { return calls_; }

 private:
  engine& engine_;
  std::size_t budget_;
  int epoll_;
  int calls_ = 0;
};

TEST_CASE(
    "a guest's timers fire, one after the other, and it is called no more often than needed") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      int ended = 0;
      const std::int64_t before = kernel::now_ns();
      f->start(
          [](engine& e) -> task<void> {
            for (int i = 0; i < 5; ++i) [[maybe_unused]]
              const auto slept = co_await e.sleep_for(4ms);
          }(*f),
          [&] { ++ended; });
      f->start(sleep(*f, 2ms), [&](const auto&) { ++ended; });
      REQUIRE(h.until([&] { return ended == 2; }));
      CHECK(kernel::now_ns() - before >= 20'000'000);
      CHECK(h.calls() < 60);
    }
  }
}

TEST_CASE("a guest's sockets are served") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      stream_pair pair = stream_pair::tcp();
      std::size_t echoed = 0;
      bool ended = false;
      result<stream> s = stream::adopt(*f, pair.take_ours());
      f->start(
          [](stream& on, std::size_t& bytes) -> task<void> {
            std::array<std::byte, 1000> buffer;
            while (true) {
              const result<std::size_t> got = co_await on.recv(buffer);
              if (!got || *got == 0) co_return;
              const result<std::size_t> sent = co_await on.send(std::span(buffer).first(*got));
              if (!sent) co_return;
              bytes += *sent;
            }
          }(*s, echoed),
          [&] { ended = true; });
      std::jthread peer([&] {
        std::vector<std::byte> back(700);
        for (std::uint64_t i = 0; i < 50; ++i) {
          support::send_all(pair.theirs(), pattern(1, i * 700, 700));
          support::recv_all(pair.theirs(), back);
          if (!support::is_pattern(back, 1, i * 700)) break;
        }
        pair.close_theirs();
      });
      CHECK(h.until([&] { return ended; }));
      CHECK(echoed == 35'000);
    }
  }
}

TEST_CASE("a guest is called for every post of another thread") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      for (int i = 0; i < 20; ++i) {
        bool ran = false;
        std::jthread([&] { f->post([&] { ran = true; }); }).join();
        REQUIRE(h.until([&] { return ran; }));
        if (i % 3 == 0) CHECK(h.settles());
      }
    }
  }
}

TEST_CASE("a guest is called for what was begun before and outside of it") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    const stream_pair pair = stream_pair::tcp();
    std::array<std::byte, 10> into{};
    int ended = 0;
    const auto count = [&](const result<std::size_t>& r) {
      CHECK(r == 10U);
      ++ended;
    };
    f->start(receive(*f, pair.ours(), into), count);
    {
      host h(*f);
      REQUIRE(support::send_all(pair.theirs(), pattern(2, 0, 10)));
      CHECK(h.until([&] { return ended == 1; }));
      CHECK(h.settles());
      f->start(receive(*f, pair.ours(), into), count);  // by the host, not in a turn
      REQUIRE(support::send_all(pair.theirs(), pattern(2, 0, 10)));
      CHECK(h.until([&] { return ended == 2; }));
    }
  }
}

TEST_CASE("a guest is called for the lease that its host drops and a task waits for") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      std::vector<lease> all;
      while (lease block = f->core().blocks().try_take()) all.push_back(std::move(block));
      bool granted = false;
      f->start(
          [](engine& e) -> task<bool> { co_return (co_await e.acquire_block()).has_value(); }(*f),
          [&](bool got) { granted = got; });
      CHECK(h.settles());
      REQUIRE_FALSE(granted);
      all.pop_back();
      CHECK(h.until([&] { return granted; }));
    }
  }
}

TEST_CASE("a guest is called for the file that its host drops, which closes it and its name") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend, {{"sluice.capabilities.hidden", "unnamed_files"}});
    const support::temp_dir dir;
    {
      host h(*f);
      std::optional<file> made;
      f->start(
          [](engine& e, std::string path) -> task<result<file>> {
            result<directory> in = co_await directory::open(e, path);
            if (!in) co_return std::unexpected(in.error());
            co_return co_await in->create();
          }(*f, dir.path().string()),
          [&](result<file> r) {
            REQUIRE(r.has_value());
            made.emplace(std::move(*r));
          });
      REQUIRE(h.until([&] { return made.has_value(); }));
      CHECK(h.settles());
      CHECK_FALSE(std::filesystem::is_empty(dir.path()));
      const int fd = made->fd();
      made.reset();
      CHECK(h.until([&] { return ::fcntl(fd, F_GETFD) < 0; }));
      CHECK(std::filesystem::is_empty(dir.path()));
    }
  }
}

// A coroutine that waits here is resumed by the host itself.
struct host_event {
  std::coroutine_handle<> waiting;
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) noexcept { waiting = h; }
  void await_resume() const noexcept {}
};

TEST_CASE("a guest is called for what a coroutine begins that the host has resumed") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      const stream_pair pair = stream_pair::tcp();
      std::array<std::byte, 10> into{};
      host_event fired;
      int ended = 0;
      f->start(
          [](engine& e, int fd, std::span<std::byte> bytes, host_event& event) -> task<void> {
            co_await event;
            CHECK((co_await receive(e, fd, bytes)) == 10U);
            co_await event;
            CHECK((co_await e.sleep_for(2ms)).has_value());
          }(*f, pair.ours(), into, fired),
          [&] { ++ended; });
      CHECK(h.settles());
      REQUIRE(support::send_all(pair.theirs(), pattern(2, 0, 10)));
      std::exchange(fired.waiting, {}).resume();
      REQUIRE(h.until([&] { return fired.waiting != nullptr; }));
      CHECK(h.settles());
      fired.waiting.resume();
      CHECK(h.until([&] { return ended == 1; }));
    }
  }
}

TEST_CASE("a guest that is run in between is called for what that left over") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      int ended = 0;
      f->start(sleep(*f, 5ms), [&](const auto&) { ++ended; });
      f->run_once(0ms);
      CHECK(h.until([&] { return ended == 1; }));
    }
  }
}

TEST_CASE("a guest's op that is cancelled by the host, or late, ends without other events") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      const stream_pair pair = stream_pair::tcp();
      std::array<std::byte, 10> into{};
      for (const bool by_host : {true, false, true, false}) {
        int error = 0;
        const task_handle waiting =
            f->start(receive(*f, pair.ours(), into, by_host ? 1h : 3ms),
                     [&](const result<std::size_t>& r) { error = r.error().code; });
        if (by_host) {
          CHECK(h.settles());
          f->cancel(waiting);
        }
        REQUIRE(h.until([&] { return error != 0; }));
        CHECK(error == (by_host ? ECANCELED : ETIMEDOUT));
      }
    }
  }
}

TEST_CASE("a guest's workers call it back") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      int ended = 0;
      f->start(
          [](engine& e) -> task<void> {
            for (int i = 0; i < 30; ++i) {
              const auto call = [](void*) -> std::int64_t {
                std::this_thread::sleep_for(100us);
                return 1;
              };
              CHECK(co_await e.run_on_worker(call, nullptr) == 1U);
            }
          }(*f),
          [&] { ++ended; });
      CHECK(h.until([&] { return ended == 1; }));
    }
  }
}

TEST_CASE("a guest with a budget of one is called until all is done") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f, 1);
      int ended = 0;
      for (int i = 0; i < 50; ++i) f->start(sleep(*f, 1ms), [&](const auto&) { ++ended; });
      CHECK(h.until([&] { return ended == 50; }));
    }
  }
}

TEST_CASE("a guest whose queues are full is called until all is done") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend,
                     {{"sluice.ring.entries", "8"}, {"sluice.ring.completion_entries", "16"}});
    {
      host h(*f);
      int ended = 0;
      std::vector<stream_pair> pairs;
      std::vector<std::byte> into(40);
      for (std::size_t i = 0; i < 40; ++i) {
        pairs.push_back(stream_pair::local());
        f->start(receive(*f, pairs[i].ours(), std::span(into).subspan(i, 1)),
                 [&](const auto&) { ++ended; });
      }
      std::jthread peer([&] {
        for (std::size_t i = 0; i < 40; ++i) support::send_all(pairs[i].theirs(), pattern(3, i, 1));
      });
      CHECK(h.until([&] { return ended == 40; }));
      peer.join();
      CHECK(support::is_pattern(into, 3, 0));
    }
  }
}

TEST_CASE("a guest that only waits lets its host sleep") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      const stream_pair pair = stream_pair::tcp();
      std::array<std::byte, 10> into{};
      f->spawn(receive(*f, pair.ours(), into, 1h));
      f->spawn(sleep(*f, 1h));
      REQUIRE(h.settles());
      const int calls = h.calls();
      CHECK_FALSE(h.until([] { return false; }, 30));
      CHECK(h.calls() <= calls + 1);
    }
  }
}

TEST_CASE("process never waits, and a guest may also be run") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    {
      host h(*f);
      f->spawn(sleep(*f, 30ms));
      const std::int64_t before = kernel::now_ns();
      CHECK(f->process(10) == 0);
      CHECK(kernel::now_ns() - before < 25'000'000);
      f->run();
      CHECK(f->task_count() == 0);
      bool ran = false;
      std::jthread([&] { f->post([&] { ran = true; }); }).join();
      CHECK(h.until([&] { return ran; }));
    }
  }
}

}  // namespace
