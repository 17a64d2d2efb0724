// How long a transfer may last as a whole: by every path, and of every kind.
#include "transfer/deadline.hpp"

#include "conformance/download.hpp"
#include "conformance/every_path.hpp"

namespace {

using namespace every_path;

constexpr std::uint64_t block = 32 * 1024;
constexpr content body{.seed = 91, .length = 6 * block + 321};

template <class Check>
void by_every_route(Check check) {
  for_each(
      on_disk(), small_steps, [](const route&) { return true; },
      [&check](world& w, const route& by) {
        make_source(w.at("source"), body);
        check(w, by);
      });
}

// Until the peer has gone. Less than every limit of silence, and far below any rate that is enough.
void trickle(int fd) {
  const std::byte one{};
  while (send_all(fd, std::span(&one, 1))) std::this_thread::sleep_for(5ms);
}
void sip(int fd) {
  std::byte one{};
  for (int i = 0; i < 60 && ::recv(fd, &one, 1, 0) == 1; ++i) std::this_thread::sleep_for(5ms);
  take_all(fd);  // what it was sent in time
}

sluice::task<sluice::result<int>> give(int value) { co_return value; }

sluice::task<sluice::result<int>> sleep_for(sluice::engine& e, std::chrono::nanoseconds time) {
  sluice::op_await sleeping = e.sleep_for(time);
  const sluice::result<std::size_t> slept = co_await sleeping;
  if (!slept) co_return std::unexpected(slept.error());
  co_return 7;
}

// What a server makes of it: an error of its own, whatever the sleep came to.
sluice::task<sluice::result<int>> fail_after(sluice::engine& e, std::chrono::nanoseconds time) {
  sluice::op_await sleeping = e.sleep_for(time);
  const sluice::result<std::size_t> slept = co_await sleeping;
  co_return sluice::fail(slept ? EIO : ENOSPC, "test");
}

template <class Script>
sluice::result<sluice::receipt> send_to(world& w, Script script,
                                        std::chrono::nanoseconds deadline) {
  sluice::send_options options = range(0, 16 << 20);
  options.deadline = deadline;
  stream_pair ends = stream_pair::tcp();
  peer taker(ends.take_theirs(), script);
  sluice::result<sluice::receipt> r = w.run(send_named(
      w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(), "source", options));
  taker.join(w);
  w.settle();
  return r;
}

}  // namespace

TEST_CASE("work that ends in time keeps its value, or its own error, and costs no wait") {
  for (const std::string& backend : support::backends()) {
    world w({backend, backend, std::filesystem::current_path().string(), false, ""});
    sluice::engine& e = w.engine();
    const auto within = [&e](std::chrono::nanoseconds limit,
                             sluice::task<sluice::result<int>> work) {
      return sluice::ended_within(e.core(), limit, std::move(work));
    };
    CHECK(*w.run(within(-1s, give(3))) == 3);
    CHECK(*w.run(within(30s, sleep_for(e, 1ms))) == 7);
    const auto late = w.run(within(1ms, sleep_for(e, 30s)));
    REQUIRE_FALSE(late.has_value());
    CHECK(late.error().code == ETIMEDOUT);
    CHECK(std::string(late.error().where) == "the deadline has passed");
    CHECK(w.run(within(30s, fail_after(e, 1ms))).error().code == EIO);
    CHECK(w.run(within(1ms, fail_after(e, 30s))).error().code == ENOSPC);
    // Of two the shorter one counts, and the longer one does not hide it.
    CHECK(w.run(within(30s, within(1ms, sleep_for(e, 30s)))).error().code == ETIMEDOUT);
    CHECK(w.run(within(1ms, within(30s, sleep_for(e, 30s)))).error().code == ETIMEDOUT);
  }
}

TEST_CASE("a cancel from outside and the end of the engine are passed on, and told once") {
  for (const std::string& backend : support::backends()) {
    for (const bool end_engine : {false, true}) {
      CAPTURE(end_engine);
      world w({backend, backend, std::filesystem::current_path().string(), false, ""});
      int told = 0;
      int failure = 0;
      const sluice::task_handle handle =
          w.engine().start(sluice::ended_within(w.engine().core(), 30s, sleep_for(w.engine(), 30s)),
                           [&](const sluice::result<int>& r) {
                             ++told;
                             failure = r ? 0 : r.error().code;
                           });
      w.engine().run_once(0ms);
      if (end_engine) {
        w.end_engine();
      } else {
        w.engine().cancel(handle);
        w.until([&told] { return told > 0; });
      }
      CHECK(told == 1);
      CHECK(failure == ECANCELED);
    }
  }
}

TEST_CASE("a deadline at any time ends a transfer of any path once, cleanly, and with ETIMEDOUT") {
  by_every_route([](world& w, const route& by) {
    int late = 0;
    for (const std::chrono::nanoseconds deadline :
         {std::chrono::nanoseconds(-1), std::chrono::nanoseconds(1), std::chrono::nanoseconds(50us),
          std::chrono::nanoseconds(200us), std::chrono::nanoseconds(500us),
          std::chrono::nanoseconds(2ms), std::chrono::nanoseconds(60s)}) {
      CAPTURE(deadline.count());
      const auto wires = [&by] { return by.is_of_ring ? transfer::tcp() : transfer::local(); };
      transfer t(w, by, body, wires(), deadline);
      t.finish();
      if (t.outcome().failure == 0) {
        CHECK(deadline > 1ns);
        t.check_whole();
      } else {
        CHECK(t.outcome().failure == ETIMEDOUT);
        CHECK(deadline < 1s);
        t.check_part();
        ++late;
      }
      // Of other bytes: what was left in a pipe would be found in the next one's.
      transfer next(w, by, {body.seed, block + 5, 2 * block + 3}, wires());
      next.finish();
      next.check_whole();
    }
    CHECK(late >= 2);
  });
}

TEST_CASE("a peer that trickles or sips within every other limit is not served beyond it") {
  for (const route& by : routes()) {
    if (by.kind == move::copy) continue;
    CAPTURE(by.name);
    for (const setting& on : on_disk()) {
      if (!is_possible(on, by)) continue;
      CAPTURE(on.name);
      world w(on);
      force(w, by);
      const auto begun = std::chrono::steady_clock::now();
      if (by.kind == move::receive) {
        sluice::receive_options options = of_length(1 << 20);
        options.deadline = 100ms;
        const uploaded u = upload_from(w, options, trickle);
        REQUIRE_FALSE(u.outcome.has_value());
        CHECK(u.outcome.error().code == ETIMEDOUT);
        CHECK(u.progress.bytes > 0);
        CHECK(w.names().empty());
      } else if (by.kind == move::send) {
        make_source(w.at("source"), {91, 16 << 20});
        const sluice::result<sluice::receipt> r = send_to(w, sip, 100ms);
        REQUIRE_FALSE(r.has_value());
        CHECK(r.error().code == ETIMEDOUT);
      } else {
        stream_pair left = stream_pair::tcp();
        stream_pair right = stream_pair::tcp();
        peer source(left.take_theirs(), trickle);
        peer sink(right.take_theirs(), sip);
        const moved m = w.run(relay_one(w.engine(), adopt(w.engine(), left.take_ours()),
                                        adopt(w.engine(), right.take_ours()), 100ms));
        source.join(w);
        sink.join(w);
        CHECK(m.failure == ETIMEDOUT);
        CHECK(m.progress.bytes > 0);
      }
      const auto took = std::chrono::steady_clock::now() - begun;
      CHECK(took >= 90ms);
      CHECK(took < 10s);
    }
  }
}
