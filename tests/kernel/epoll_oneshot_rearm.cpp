// With EPOLLONESHOT a registration reports once; EPOLL_CTL_MOD arms it again and reports a
// condition that is already true. close(2) removes it: MOD of the same number, used again, is
// ENOENT.
#include <sys/epoll.h>

#include "probe.hpp"

namespace {

void show() {
  const probe::descriptor epoll(
      static_cast<int>(probe::must(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")));
  auto [near, far] = probe::socket_pair();
  const auto control = [&](int operation, int fd) {
    epoll_event interest{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = 1}};
    return probe::result_of(::epoll_ctl(epoll.get(), operation, fd, &interest));
  };
  const auto events = [&](int limit_ms) {
    epoll_event event{};
    return probe::must(::epoll_wait(epoll.get(), &event, 1, limit_ms), "epoll_wait");
  };

  probe::expect_equal(control(EPOLL_CTL_ADD, near.get()), 0, "ADD");
  probe::expect_equal(events(0), 0, "events before any byte");
  probe::send_all(far.get(), "x");
  probe::expect_equal(events(probe::patience_ms), 1, "the first report");
  probe::expect_equal(events(20), 0, "a second report while the byte is unread");
  probe::send_all(far.get(), "y");
  probe::expect_equal(events(20), 0, "a report of a new byte after the one shot");
  probe::expect_equal(control(EPOLL_CTL_ADD, near.get()), -EEXIST, "ADD instead of MOD");
  probe::expect_equal(control(EPOLL_CTL_MOD, near.get()), 0, "MOD");
  probe::expect_equal(events(0), 1, "the condition that was true at MOD");

  const int number = near.get();
  near.close();
  far.close();
  auto [second, peer] = probe::socket_pair();
  probe::expect(second.get() == number || peer.get() == number, "the number is used again");
  probe::expect_equal(control(EPOLL_CTL_MOD, number), -ENOENT, "MOD of the number used again");
  probe::expect_equal(control(EPOLL_CTL_ADD, number), 0, "ADD of the number used again");
}

}  // namespace

int main() { return probe::run(show); }
