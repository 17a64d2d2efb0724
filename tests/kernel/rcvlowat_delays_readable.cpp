// With SO_RCVLOWAT a TCP socket is readable once so many bytes have come, for the ring's poll as
// for poll(2); the end of the stream and a reset are told at once. A splice takes what is there.
#include <fcntl.h>

#include <array>
#include <string>

#include "probe.hpp"

namespace {

constexpr int mark = 100'000;

probe::descriptor_pair marked_pair() {
  probe::descriptor_pair ends = probe::tcp_pair();
  probe::must(::setsockopt(ends.first.get(), SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark),
              "SO_RCVLOWAT");
  return ends;
}

void expect_silence(probe::ring& ring, const char* what) {
  probe::expect(!ring.wait_for(20).has_value(), what);
}

void queue_poll(probe::ring& ring, int fd) {
  ring.queue(1, [fd](io_uring_sqe* sqe) { ::io_uring_prep_poll_add(sqe, fd, POLLIN | POLLRDHUP); });
  ring.submit();
}

void show() {
  const std::string half(mark / 2, 'x');
  {
    const auto [near, far] = marked_pair();
    probe::ring ring;
    queue_poll(ring, near.get());
    probe::send_all(far.get(), half);
    expect_silence(ring, "not readable with half of it");
    probe::expect(!probe::becomes_ready(near.get(), POLLIN, 0), "nor for poll(2)");
    const auto pipe = probe::pipe_pair();
    const long taken =
        ::splice(near.get(), nullptr, pipe.second.get(), nullptr, 10, SPLICE_F_NONBLOCK);
    probe::expect_equal(probe::result_of(taken), 10, "splice of what is there");
    probe::send_all(far.get(), half);
    expect_silence(ring, "ten bytes are lacking");
    probe::send_all(far.get(), half);
    probe::expect((ring.wait().result & POLLIN) != 0, "readable with all of it");
  }
  {
    const auto [near, far] = marked_pair();
    probe::ring ring;
    queue_poll(ring, near.get());
    probe::send_all(far.get(), half);
    expect_silence(ring, "not readable with half of it");
    probe::must(::shutdown(far.get(), SHUT_WR), "shutdown");
    probe::expect((ring.wait().result & POLLIN) != 0, "readable at the end of the stream");
  }
  {
    auto [near, far] = marked_pair();
    probe::ring ring;
    queue_poll(ring, near.get());
    const linger hard{.l_onoff = 1, .l_linger = 0};
    probe::must(::setsockopt(far.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard), "SO_LINGER");
    far.close();
    probe::expect((ring.wait().result & (POLLIN | POLLERR | POLLHUP)) != 0, "a reset is told");
  }
}

}  // namespace

int main() { return probe::run(show); }
