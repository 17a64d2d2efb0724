// close(2) ends neither a receive in flight on the ring nor the connection behind it: the op holds
// the file. shutdown(2) ends the receive with 0.
#include "probe.hpp"

namespace {

void show() {
  probe::ring ring;
  char byte = 0;
  auto [near, far] = probe::socket_pair();
  const auto receive = [&](int fd) {
    ring.queue(1, [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, fd, &byte, 1, 0); });
    ring.submit();
  };

  receive(near.get());
  near.close();
  probe::expect(!ring.wait_for(20).has_value(), "the receive outlives close(2)");
  probe::expect_equal(probe::result_of(::recv(far.get(), &byte, 1, MSG_DONTWAIT)), -EAGAIN,
                      "the peer of a closed socket with a receive in flight");
  probe::send_all(far.get(), "x");
  probe::expect_equal(ring.wait().result, 1, "the receive on the closed socket");

  const auto [open_end, peer] = probe::socket_pair();
  receive(open_end.get());
  probe::expect(!ring.wait_for(20).has_value(), "the second receive waits");
  probe::must(::shutdown(open_end.get(), SHUT_RDWR), "shutdown");
  probe::expect_equal(ring.wait().result, 0, "the receive after shutdown(2)");
}

}  // namespace

int main() { return probe::run(show); }
