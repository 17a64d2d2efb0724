#include "kernel/fd.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "kernel/clock.hpp"
#include "support/all_given_back.hpp"

namespace {

using namespace sluice::kernel;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
bool is_readable(int fd, int wait_ms = 0) {
  pollfd asked{fd, POLLIN, 0};
  return ::poll(&asked, 1, wait_ms) == 1;
}

TEST_CASE("a descriptor is closed by its owner, once, whoever that is in the end") {
  const support::all_given_back watch;
  int number = -1;
  {
    unique_fd first(::dup(0));
    number = first.get();
    CHECK(first);
    unique_fd second(std::move(first));
    CHECK_FALSE(first);
    unique_fd third;
    third = std::move(second);
    CHECK(third.get() == number);
    CHECK(is_open(number));
    third = unique_fd(::dup(0));  // closes what it had
    CHECK_FALSE(is_open(number));
    number = third.get();
  }
  CHECK_FALSE(is_open(number));
}

TEST_CASE("a released descriptor belongs to the caller, a reset one is closed") {
  unique_fd owner(::dup(0));
  const int number = owner.release();
  CHECK(owner.get() == -1);
  CHECK(is_open(number));
  owner.reset(number);
  owner.reset();
  CHECK_FALSE(is_open(number));
  owner.reset();  // nothing to close
}

TEST_CASE("a wake-up is readable from the first ring until it is cleared, from any thread") {
  const auto wake = wake_fd::make();
  REQUIRE(wake.has_value());
  CHECK_FALSE(is_readable(wake->get()));
  std::jthread([&] {
    for (int i = 0; i < 100; ++i) wake->ring();
  }).join();
  CHECK(is_readable(wake->get()));
  wake->clear();
  CHECK_FALSE(is_readable(wake->get()));
  wake->clear();  // never waits
  wake->ring();
  CHECK(is_readable(wake->get()));
}

TEST_CASE("a timer is readable from its deadline on, until it is armed again or disarmed") {
  const auto timer = timer_fd::make();
  REQUIRE(timer.has_value());
  CHECK_FALSE(is_readable(timer->get()));
  const std::int64_t deadline = now_ns() + 5'000'000;
  timer->arm(deadline);
  CHECK(is_readable(timer->get(), 5000));
  CHECK(now_ns() >= deadline);
  CHECK(is_readable(timer->get()));
  timer->arm(0);
  CHECK_FALSE(is_readable(timer->get(), 5));
  timer->arm(1);  // long past
  CHECK(is_readable(timer->get(), 5000));
  timer->arm(now_ns() + 3'600'000'000'000);
  CHECK_FALSE(is_readable(timer->get(), 5));
}

TEST_CASE("descriptors of sluice's own do not pass to a program that is executed") {
  CHECK((::fcntl(wake_fd::make()->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(timer_fd::make()->get(), F_GETFD) & FD_CLOEXEC) != 0);
}

}  // namespace
