#include "kernel/epoll.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "kernel/clock.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;
using support::stream_pair;

const std::array<std::byte, 4> some_bytes{};

struct bench {
  epoll e = std::move(*epoll::make());
  std::array<epoll_event, 8> events{};
  std::size_t wait(std::int64_t timeout_ns = 0) { return e.wait(events, timeout_ns); }
  // The first event; copies, for the struct is packed.
  [[nodiscard]] int fd() const { return int{events[0].data.fd}; }
  [[nodiscard]] std::uint32_t told() const { return std::uint32_t{events[0].events}; }
};

TEST_CASE("a watched descriptor is reported as long as it is readable") {
  bench b;
  const stream_pair pair = stream_pair::local();
  REQUIRE(b.e.watch(pair.ours()).has_value());
  CHECK(b.wait() == 0);
  REQUIRE(support::send_all(pair.theirs(), some_bytes));
  for (int i = 0; i < 3; ++i) {
    CHECK(b.wait() == 1);
    CHECK(b.fd() == pair.ours());
  }
  CHECK(b.e.watch(pair.ours()).error().code == EEXIST);
}

TEST_CASE("an armed descriptor is reported once, and again when it is armed again") {
  bench b;
  const stream_pair pair = stream_pair::local();
  REQUIRE(b.e.arm_once(pair.ours(), EPOLLIN) == 0);
  REQUIRE(support::send_all(pair.theirs(), some_bytes));
  CHECK(b.wait() == 1);
  CHECK(b.wait() == 0);
  REQUIRE(b.e.arm_once(pair.ours(), EPOLLIN) == 0);
  CHECK(b.wait() == 1);
}

TEST_CASE("arming replaces the events asked for") {
  bench b;
  const stream_pair pair = stream_pair::local();
  REQUIRE(b.e.arm_once(pair.ours(), EPOLLOUT) == 0);
  REQUIRE(b.e.arm_once(pair.ours(), EPOLLIN) == 0);
  CHECK(b.wait() == 0);
  REQUIRE(b.e.arm_once(pair.ours(), EPOLLIN | EPOLLOUT) == 0);
  CHECK(b.wait() == 1);
  CHECK(b.told() == EPOLLOUT);
}

TEST_CASE("a descriptor number in use again is armed anew") {
  bench b;
  const int number = ::dup(0);
  for (int round = 0; round < 3; ++round) {
    const stream_pair pair = stream_pair::local();
    ::dup2(pair.ours(), number);
    REQUIRE(b.e.arm_once(number, EPOLLIN) == 0);
    CHECK(b.wait() == 0);
    REQUIRE(support::send_all(pair.theirs(), some_bytes));
    CHECK(b.wait() == 1);
    CHECK(b.fd() == number);
  }
  ::close(number);
}

TEST_CASE("a regular file cannot be armed: EPERM, and what is no descriptor is EBADF") {
  bench b;
  const support::temp_dir dir;
  const unique_fd file(dir.open("file"));
  CHECK(b.e.arm_once(file.get(), EPOLLIN) == EPERM);
  CHECK(b.e.arm_once(-1, EPOLLIN) == EBADF);
}

TEST_CASE("a wait ends at its limit, to the fraction of a millisecond") {
  bench b;
  const std::int64_t before = now_ns();
  CHECK(b.wait(300'000) == 0);
  const std::int64_t took = now_ns() - before;
  CHECK(took >= 300'000);
  CHECK(took < 1'000'000'000);
}

TEST_CASE("a wait without limit ends with the event") {
  bench b;
  const stream_pair pair = stream_pair::local();
  REQUIRE(b.e.watch(pair.ours()).has_value());
  std::jthread sender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    support::send_all(pair.theirs(), some_bytes);
  });
  CHECK(b.wait(-1) == 1);
}

TEST_CASE("no more events are given than there is room for, the rest at the next wait") {
  bench b;
  std::vector<stream_pair> pairs;
  for (int i = 0; i < 12; ++i) {
    pairs.push_back(stream_pair::local());
    REQUIRE(b.e.arm_once(pairs.back().ours(), EPOLLOUT) == 0);
  }
  CHECK(b.wait() == 8);
  CHECK(b.wait() == 4);
  CHECK(b.wait() == 0);
}

}  // namespace
