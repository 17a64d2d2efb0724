// The state of a TCP socket does not tell a close in both directions from a reset; the first
// receive or splice does.
#include <linux/tcp.h>

#include "probe.hpp"

namespace {

constexpr int state_closed = 7;  // TCP_CLOSE of the kernel's include/net/tcp_states.h

int state_of(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  probe::must(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes), "TCP_INFO");
  return info.tcpi_state;
}

bool comes_to_state_closed(int fd) {
  for (int i = 0; i < probe::patience_ms && state_of(fd) != state_closed; ++i) ::usleep(1000);
  return state_of(fd) == state_closed;
}

void reset_by(probe::descriptor& peer) {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  probe::must(::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard), "SO_LINGER");
  peer.close();
}

void show() {
  char byte = 0;
  {
    auto [near, far] = probe::tcp_pair();
    probe::must(::shutdown(near.get(), SHUT_WR), "shutdown");
    far.close();
    probe::expect(comes_to_state_closed(near.get()), "closed both ways is TCP_CLOSE");
    probe::expect_equal(probe::result_of(::recv(near.get(), &byte, 1, 0)), 0, "recv at the end");
  }
  {
    auto [near, far] = probe::tcp_pair();
    reset_by(far);
    probe::expect(comes_to_state_closed(near.get()), "reset is TCP_CLOSE");
    probe::expect_equal(probe::result_of(::recv(near.get(), &byte, 1, 0)), -ECONNRESET,
                        "the first recv after a reset");
    probe::expect_equal(probe::result_of(::recv(near.get(), &byte, 1, 0)), 0, "the second");
  }
  {
    auto [near, far] = probe::tcp_pair();
    const auto [read_end, write_end] = probe::pipe_pair();
    reset_by(far);
    probe::expect(comes_to_state_closed(near.get()), "reset is TCP_CLOSE");
    probe::expect_equal(
        probe::result_of(::splice(near.get(), nullptr, write_end.get(), nullptr, 1, 0)),
        -ECONNRESET, "the first splice after a reset");
  }
}

}  // namespace

int main() { return probe::run(show); }
