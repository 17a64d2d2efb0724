// On a ring with DEFER_TASKRUN a foreign epoll loop that sleeps on the ring's own descriptor is not
// woken when work falls due (Linux 6.18; only a fresh poll sees it). A registered eventfd wakes it.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <thread>

#include "probe.hpp"

namespace {

class watch {
 public:
  explicit watch(int fd)
      : epoll_(static_cast<int>(probe::must(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"))) {
    epoll_event interest{.events = EPOLLIN, .data = {.fd = fd}};
    probe::must(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &interest), "epoll_ctl");
  }
  // EINTR is no news: the kernel interrupts the owner's wait once, to start polling the ring.
  bool wakes_within(int limit_ms) {
    epoll_event event{};
    int woken = 0;
    do {
      woken = ::epoll_wait(epoll_.get(), &event, 1, limit_ms);
    } while (woken < 0 && errno == EINTR);
    return probe::must(woken, "epoll_wait") == 1;
  }

 private:
  probe::descriptor epoll_;
};

void show() {
  probe::ring ring(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  const probe::descriptor signal(
      static_cast<int>(probe::must(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")));
  probe::expect_equal(::io_uring_register_eventfd(ring.get(), signal.get()), 0, "register_eventfd");
  watch on_ring(ring.fd());
  watch on_signal(signal.get());

  const auto [near, far] = probe::socket_pair();
  char byte = 0;
  bool ring_woke = true;
  for (int turn = 0; turn < 3; ++turn) {
    ring.queue(1, [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, near.get(), &byte, 1, 0); });
    ring.submit();
    probe::expect(!on_ring.wakes_within(10), "the ring is silent while the receive waits");
    probe::expect(!on_signal.wakes_within(0), "the eventfd is silent while the receive waits");

    std::thread sender([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ::send(far.get(), "x", 1, MSG_NOSIGNAL);
    });
    const bool signalled = on_signal.wakes_within(probe::patience_ms);
    sender.join();
    probe::expect(signalled, "the eventfd wakes a sleeping loop");
    probe::expect_equal(::io_uring_cq_ready(ring.get()), 0, "CQEs before the owner enters");
    ring_woke = ring_woke && on_ring.wakes_within(20);
    probe::expect(probe::becomes_ready(ring.fd(), POLLIN, 0),
                  "a fresh poll finds the ring readable");

    // Read first, then get_events: posting the CQEs signals once more, and that signal must stay.
    std::uint64_t count = 0;
    probe::expect_equal(::read(signal.get(), &count, sizeof count), sizeof count, "eventfd read");
    probe::expect_equal(::io_uring_get_events(ring.get()), 0, "io_uring_get_events");
    probe::expect_equal(::io_uring_cq_ready(ring.get()), 1, "CQEs after get_events");
    probe::expect(on_signal.wakes_within(0), "posting a CQE signals the eventfd as well");
    probe::expect_equal(::read(signal.get(), &count, sizeof count), sizeof count, "eventfd read");
    ::io_uring_cq_advance(ring.get(), 1);
  }
  std::printf("the ring's own descriptor %s a sleeping loop\n",
              ring_woke ? "wakes" : "does not wake");
}

}  // namespace

int main() { return probe::run(show); }
