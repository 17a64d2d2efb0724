// SO_RCVBUF and SO_SNDBUF set by hand fix the size of a TCP socket's buffers: without them the
// kernel grows both while a transfer runs.
#include <fstream>
#include <thread>
#include <vector>

#include "probe.hpp"

namespace {

int buffer_bytes(int fd, int option) {
  int bytes = 0;
  socklen_t size = sizeof bytes;
  probe::must(::getsockopt(fd, SOL_SOCKET, option, &bytes, &size), "getsockopt");
  return bytes;
}

void fix_buffer(int fd, int option) {
  constexpr int bytes = 65536;
  probe::must(::setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes), "setsockopt");
}

struct growth {
  int receive_before, receive_after;
  int send_before, send_after;
};

// Moves data until the receive buffer has grown, `most` bytes at most.
growth transfer(bool fixed, std::size_t most) {
  sockaddr_in bound{};
  const probe::descriptor listener = probe::tcp_listener(&bound);
  const probe::descriptor sender = probe::tcp_socket();
  if (fixed) fix_buffer(listener.get(), SO_RCVBUF);  // inherited by what it accepts
  if (fixed) fix_buffer(sender.get(), SO_SNDBUF);
  growth seen{};
  seen.send_before = buffer_bytes(sender.get(), SO_SNDBUF);
  probe::tcp_connect(sender.get(), bound);
  const probe::descriptor receiver(static_cast<int>(
      probe::must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept4")));
  seen.receive_before = buffer_bytes(receiver.get(), SO_RCVBUF);

  std::thread writer([fd = sender.get()] {
    const std::vector<char> data(1 << 20, 'x');
    while (::send(fd, data.data(), data.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  std::vector<char> sink(1 << 18);
  seen.receive_after = seen.receive_before;
  for (std::size_t moved = 0; moved < most && seen.receive_after == seen.receive_before;) {
    const auto got = ::recv(receiver.get(), sink.data(), sink.size(), 0);
    if (got <= 0) break;
    moved += static_cast<std::size_t>(got);
    seen.receive_after = buffer_bytes(receiver.get(), SO_RCVBUF);
  }
  seen.send_after = buffer_bytes(sender.get(), SO_SNDBUF);
  ::shutdown(receiver.get(), SHUT_RDWR);
  ::shutdown(sender.get(), SHUT_RDWR);
  writer.join();
  return seen;
}

void show() {
  int moderated = 0;
  std::ifstream("/proc/sys/net/ipv4/tcp_moderate_rcvbuf") >> moderated;
  if (moderated == 0) probe::skip("net.ipv4.tcp_moderate_rcvbuf is off");

  const growth tuned = transfer(false, 256 << 20);
  std::printf("tuned: receive %d -> %d, send %d -> %d\n", tuned.receive_before, tuned.receive_after,
              tuned.send_before, tuned.send_after);
  probe::expect(tuned.receive_after > tuned.receive_before, "the kernel grows the receive buffer");
  probe::expect(tuned.send_after > tuned.send_before, "the kernel grows the send buffer");

  const growth fixed = transfer(true, 64 << 20);
  probe::expect_equal(fixed.receive_before, 2 * 65536, "SO_RCVBUF is doubled for bookkeeping");
  probe::expect_equal(fixed.receive_after, fixed.receive_before, "a fixed receive buffer");
  probe::expect_equal(fixed.send_after, fixed.send_before, "a fixed send buffer");
}

}  // namespace

int main() { return probe::run(show); }
