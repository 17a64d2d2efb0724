// A ring send on a blocking socket ends short when the socket buffer is full, where send(2) would
// wait; with MSG_WAITALL it goes on until all is sent.
#include <thread>
#include <vector>

#include "probe.hpp"

namespace {

constexpr std::size_t bytes = 32 << 20;  // more than two socket buffers hold

void show() {
  probe::ring ring;
  const std::vector<char> data(bytes, 'x');
  const auto send_to = [&](int fd, int flags) {
    return [&, fd, flags](io_uring_sqe* sqe) {
      ::io_uring_prep_send(sqe, fd, data.data(), data.size(), flags | MSG_NOSIGNAL);
    };
  };

  {
    const auto [near, far] = probe::tcp_pair();
    const long sent = ring.perform(send_to(near.get(), 0));
    probe::expect(sent > 0 && sent < static_cast<long>(bytes),
                  "send to a peer that does not read ends short, got " + probe::in_words(sent));
  }
  {
    const auto [near, far] = probe::tcp_pair();
    ring.queue(1, send_to(near.get(), MSG_WAITALL));
    ring.submit();
    if (const auto early = ring.wait_for(20)) {
      probe::fail("send with MSG_WAITALL did not wait: " + probe::in_words(early->result));
    }
    std::thread reader([fd = far.get()] {
      std::vector<char> sink(1 << 20);
      while (::recv(fd, sink.data(), sink.size(), 0) > 0) {
      }
    });
    const auto sent = ring.wait_for(probe::patience_ms);
    ::shutdown(near.get(), SHUT_RDWR);
    reader.join();
    probe::expect(sent.has_value(), "send with MSG_WAITALL ends");
    probe::expect_equal(sent->result, static_cast<long>(bytes), "send with MSG_WAITALL");
  }
}

}  // namespace

int main() { return probe::run(show); }
