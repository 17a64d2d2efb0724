// O_NONBLOCK on the socket does not make the ring give up: recv, read and accept wait for the
// peer as they do on a blocking socket. Only MSG_DONTWAIT in the op completes with -EAGAIN.
#include "probe.hpp"

namespace {

char byte = 0;

// The op waits while nothing is there, and completes with `result` once provide() has run.
template <class Prepare, class Provide>
int waits_then_completes(probe::ring& ring, std::string_view name, Prepare&& op,
                         Provide&& provide) {
  ring.queue(1, op);
  ring.submit();
  const auto early = ring.wait_for(20);
  if (early)
    probe::fail("not so: " + std::string(name) + " waits, it completed with " +
                probe::in_words(early->result));
  provide();
  return ring.wait().result;
}

void show_with(probe::ring& ring, int nonblock) {
  const auto [near, far] = probe::socket_pair(SOCK_STREAM | nonblock);
  const auto send_byte = [&] { probe::send_all(far.get(), "x"); };
  const auto recv = [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, near.get(), &byte, 1, 0); };
  const auto read = [&](io_uring_sqe* sqe) { ::io_uring_prep_read(sqe, near.get(), &byte, 1, 0); };
  probe::expect_equal(waits_then_completes(ring, "recv", recv, send_byte), 1, "recv");
  probe::expect_equal(waits_then_completes(ring, "read", read, send_byte), 1, "read");

  sockaddr_in bound{};
  const probe::descriptor listener = probe::tcp_listener(&bound, nonblock);
  const probe::descriptor client = probe::tcp_socket();
  const probe::descriptor accepted(waits_then_completes(
      ring, "accept",
      [&](io_uring_sqe* sqe) {
        ::io_uring_prep_accept(sqe, listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
      },
      [&] { probe::tcp_connect(client.get(), bound); }));
  probe::must(accepted.get(), "accept by the ring");
  const int flags = static_cast<int>(probe::must(::fcntl(accepted.get(), F_GETFL), "F_GETFL"));
  probe::expect((flags & O_NONBLOCK) == 0, "the accepted socket is blocking unless asked for");

  const int dontwait = ring.perform(
      [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, near.get(), &byte, 1, MSG_DONTWAIT); });
  probe::expect_equal(dontwait, -EAGAIN, "recv with MSG_DONTWAIT");
}

void show() {
  probe::ring ring;
  show_with(ring, 0);
  show_with(ring, SOCK_NONBLOCK);
}

}  // namespace

int main() { return probe::run(show); }
