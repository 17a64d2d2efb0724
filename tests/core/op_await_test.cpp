#include <doctest/doctest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <limits>
#include <string_view>

#include "kernel/clock.hpp"
#include "sluice/op.hpp"
#include "sluice/stream.hpp"
#include "support/engine_fixture.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using support::backends;
using support::engine_fixture;
using support::stream_pair;

task<result<std::size_t>> sleep(engine& e, std::chrono::nanoseconds duration) {
  co_return co_await e.sleep_for(duration);
}

TEST_CASE("a sleep lasts as long as asked for and is a success") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    for (const auto duration : {-5s, 0s}) {
      const std::int64_t before = kernel::now_ns();
      CHECK(f.run(sleep(*f, duration)).has_value());
      CHECK(kernel::now_ns() - before < 1'000'000'000);
    }
    const std::int64_t before = kernel::now_ns();
    CHECK(f.run(sleep(*f, 3ms)).has_value());
    CHECK(kernel::now_ns() - before >= 3'000'000);
  }
}

TEST_CASE("the longest and the shortest duration there are mean for ever and at once") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    CHECK(f.run(sleep(*f, std::chrono::nanoseconds::min())).has_value());
    result<std::size_t> woken = 0;
    const task_handle sleeper = f->start(sleep(*f, std::chrono::nanoseconds::max()),
                                         [&woken](result<std::size_t> r) { woken = r; });
    f->run_once(2ms);
    CHECK(f->task_count() == 1);
    f->cancel(sleeper);
    f->run();
    CHECK(woken.error().code == ECANCELED);
  }
}

task<result<std::size_t>> receive(stream& s, std::span<std::byte> into,
                                  std::chrono::nanoseconds timeout, std::uint64_t* moved) {
  op_await receiving = s.recv(into, recv_mode::full, timeout);
  const result<std::size_t> got = co_await receiving;
  *moved = receiving.moved();
  co_return got;
}

TEST_CASE("an op that fails on the way tells its name, its error and what had moved") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = std::move(*stream::adopt(*f, pair.take_ours()));
    std::array<std::byte, 100> bytes{};
    REQUIRE(support::send_all(pair.theirs(), support::pattern(1, 0, 40)));
    std::uint64_t moved = 0;
    const auto got = f.run(receive(s, bytes, 20ms, &moved));
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error().code == ETIMEDOUT);
    CHECK(std::string_view(got.error().op) == "recv");
    CHECK(moved == 40);
    CHECK(support::is_pattern(std::span(bytes).first(40), 1, 0));
    REQUIRE(support::send_all(pair.theirs(), support::pattern(1, 0, 100)));
    CHECK(*f.run(receive(s, bytes, {}, &moved)) == 100);
    CHECK(moved == 100);
  }
}

TEST_CASE("a timeout of zero is none, and the longest is none to speak of") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = std::move(*stream::adopt(*f, pair.take_ours()));
    std::array<std::byte, 10> bytes{};
    for (const auto timeout : {std::chrono::nanoseconds(0), std::chrono::nanoseconds::max()}) {
      std::uint64_t moved = 0;
      bool ended = false;
      f->start(receive(s, bytes, timeout, &moved), [&](const auto&) { ended = true; });
      for (int i = 0; i < 3; ++i) f->run_once(1ms);
      CHECK_FALSE(ended);
      REQUIRE(support::send_all(pair.theirs(), support::pattern(1, 0, 10)));
      f->run();
      CHECK(moved == 10);
    }
  }
}

task<result<lease>> take_block(engine& e, std::chrono::nanoseconds timeout) {
  co_return co_await e.acquire_block(timeout);
}

TEST_CASE("a wait for a block may be the longest there is") {
  engine_fixture f("pool");
  std::vector<lease> all;
  while (true) {
    result<lease> got = f.run(take_block(*f, 1ms));
    if (!got) break;
    all.push_back(std::move(*got));
  }
  CHECK(all.size() == 15);
  bool ended = false;
  f->start(take_block(*f, std::chrono::nanoseconds::max()), [&](result<lease> got) {
    CHECK(got.has_value());
    ended = true;
  });
  f->run_once(1ms);
  CHECK_FALSE(ended);
  all.pop_back();
  f->run();
  CHECK(ended);
}

}  // namespace
