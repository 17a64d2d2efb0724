#include "kernel/sigpipe.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/fd.hpp"

namespace {

using namespace sluice::kernel;

// A call that raises SIGPIPE in its thread.
int write_to_nobody() {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  ::close(ends[0]);
  const unique_fd out(ends[1]);
  return ::write(out.get(), "x", 1) < 0 ? errno : 0;
}

int guarded_write() {
  sigpipe_guard guard;
  const int failure = write_to_nobody();
  if (failure == EPIPE) guard.may_have_raised();
  return failure;
}

bool is_pending() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGPIPE) == 1;
}

bool is_blocked() {
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  return sigismember(&now, SIGPIPE) == 1;
}

void block(int how) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(how, &set, nullptr);
}

void drop_pending() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  const timespec at_once{};
  sigtimedwait(&set, nullptr, &at_once);
}

TEST_CASE("a guarded call tells EPIPE, and the default of SIGPIPE does not end the process") {
  ::signal(SIGPIPE, SIG_DFL);
  CHECK(guarded_write() == EPIPE);  // the process would be gone
  CHECK_FALSE(is_pending());
  CHECK_FALSE(is_blocked());
}

TEST_CASE("in a thread that blocks SIGPIPE nothing new is pending, and it stays blocked") {
  block(SIG_BLOCK);
  CHECK(guarded_write() == EPIPE);
  CHECK_FALSE(is_pending());
  CHECK(is_blocked());
  block(SIG_UNBLOCK);
}

TEST_CASE("a signal that was pending before is not taken away") {
  block(SIG_BLOCK);
  ::raise(SIGPIPE);
  CHECK(guarded_write() == EPIPE);
  CHECK(is_pending());
  drop_pending();
  block(SIG_UNBLOCK);
}

TEST_CASE("a call that fails otherwise keeps its error") {
  const auto fails = [] {
    const sigpipe_guard guard;
    return ::write(-1, "x", 1) < 0 ? errno : 0;
  };
  CHECK(fails() == EBADF);
}

}  // namespace
