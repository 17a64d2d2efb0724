// A socket in the ring's file table stays open after close(2): its peer sees the end of the stream
// only when the slot is given up or the socket is shut down.
#include "probe.hpp"

namespace {

void expect_open(int peer) {
  char byte = 0;
  probe::expect_equal(probe::result_of(::recv(peer, &byte, 1, MSG_DONTWAIT)), -EAGAIN,
                      "the peer of a closed but registered socket");
}

void expect_end(int peer, std::string_view after) {
  char byte = 0;
  probe::expect(probe::becomes_ready(peer, POLLIN, probe::patience_ms),
                "the peer becomes readable");
  probe::expect_equal(probe::result_of(::recv(peer, &byte, 1, MSG_DONTWAIT)), 0,
                      "the peer after " + std::string(after));
}

void show() {
  probe::ring ring;
  auto [first, peer_of_first] = probe::socket_pair();
  auto [second, peer_of_second] = probe::socket_pair();
  const int sockets[2] = {first.get(), second.get()};
  probe::must(::io_uring_register_files(ring.get(), sockets, 2), "register_files");
  first.close();
  second.close();
  expect_open(peer_of_first.get());
  expect_open(peer_of_second.get());

  ring.require(IORING_OP_SHUTDOWN, "shutdown");
  const int shut = ring.perform(
      [](io_uring_sqe* sqe) { ::io_uring_prep_shutdown(sqe, 0, SHUT_RDWR); }, IOSQE_FIXED_FILE);
  probe::expect_equal(shut, 0, "shutdown of the registered socket");
  expect_end(peer_of_first.get(), "shutdown");

  int empty_slot = -1;
  probe::expect_equal(::io_uring_register_files_update(ring.get(), 1, &empty_slot, 1), 1,
                      "register_files_update");
  expect_end(peer_of_second.get(), "the slot was given up");
}

}  // namespace

int main() { return probe::run(show); }
