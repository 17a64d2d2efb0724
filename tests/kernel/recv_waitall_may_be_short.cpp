// A receive with MSG_WAITALL ends short at the end of the stream, at a reset and when it is
// cancelled; a reset behind received bytes is then never reported as an error.
#include "probe.hpp"

namespace {

constexpr std::string_view part = "the part that came";
constexpr auto part_bytes = static_cast<long>(part.size());

void show() {
  probe::ring ring;
  char buffer[4096];

  // Queued behind the part, so the receive has taken it and waits for the rest.
  const auto receive_all = [&](int fd) {
    ring.queue(1, [&](io_uring_sqe* sqe) {
      ::io_uring_prep_recv(sqe, fd, buffer, sizeof buffer, MSG_WAITALL);
    });
    ring.submit();
  };

  {
    const auto [near, far] = probe::tcp_pair();
    probe::send_all(far.get(), part);
    receive_all(near.get());
    probe::expect(!ring.wait_for(20).has_value(), "MSG_WAITALL waits for the rest");
    probe::must(::shutdown(far.get(), SHUT_WR), "shutdown");
    probe::expect_equal(ring.wait().result, part_bytes, "MSG_WAITALL at the end of the stream");
  }
  {
    const auto [near, far] = probe::tcp_pair();
    probe::send_all(far.get(), part);
    receive_all(near.get());
    ring.queue(2, [&](io_uring_sqe* sqe) { ::io_uring_prep_cancel64(sqe, 1, 0); });
    ring.submit();
    for (int seen = 0; seen < 2; ++seen) {
      const probe::completion c = ring.wait();
      probe::expect_equal(c.result, c.user_data == 1 ? part_bytes : 0,
                          c.user_data == 1 ? "cancelled MSG_WAITALL" : "the cancel");
    }
  }
  {
    auto [near, far] = probe::tcp_pair();
    probe::send_all(far.get(), part);
    receive_all(near.get());
    const linger abort_at_close{.l_onoff = 1, .l_linger = 0};
    probe::must(
        ::setsockopt(far.get(), SOL_SOCKET, SO_LINGER, &abort_at_close, sizeof abort_at_close),
        "SO_LINGER");
    far.close();
    probe::expect_equal(ring.wait().result, part_bytes, "MSG_WAITALL at a reset");
    const int behind = ring.perform([&](io_uring_sqe* sqe) {
      ::io_uring_prep_recv(sqe, near.get(), buffer, sizeof buffer, 0);
    });
    probe::expect_equal(behind, 0, "the receive behind a reset that cut MSG_WAITALL short");
  }
}

}  // namespace

int main() { return probe::run(show); }
