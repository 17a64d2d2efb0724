// A zero-copy send answers twice: its result with F_MORE, also when it failed, and a notification
// once the kernel reads the memory no more. On loopback that says that the bytes were copied. For
// bytes that the peer does not take it does not come: not by shutdown(2), not by close(2); a reset
// of the connection brings it, and says that nothing was copied of what never left.
#include "probe.hpp"

namespace {

constexpr unsigned send_zc_report_usage = 1U << 3;
constexpr std::uint32_t notif_usage_zc_copied = 1U << 31;
constexpr std::size_t block = 512 << 10;
constexpr int soon_ms = 200;

void queue_send(probe::ring& ring, int fd, const probe::pages& memory, std::uint64_t number) {
  ring.queue(number, [&](io_uring_sqe* sqe) {
    ::io_uring_prep_send_zc(sqe, fd, memory.data(), memory.bytes(), MSG_DONTWAIT | MSG_NOSIGNAL,
                            send_zc_report_usage);
  });
  ring.submit();
}

bool says_copied(const probe::completion& notice) {
  return (static_cast<std::uint32_t>(notice.result) & notif_usage_zc_copied) != 0;
}

void expect_notice(const probe::completion& seen, std::uint64_t number) {
  probe::expect((seen.flags & IORING_CQE_F_NOTIF) != 0, "the second answer is a notification");
  probe::expect((seen.flags & IORING_CQE_F_MORE) == 0, "and the last");
  probe::expect_equal(static_cast<long>(seen.user_data), static_cast<long>(number), "its op");
}

void show_taken_bytes(probe::ring& ring, const probe::pages& memory) {
  auto [far, near] = probe::tcp_pair();
  queue_send(ring, near.get(), memory, 7);
  const probe::completion sent = ring.wait();
  if (sent.result == -EINVAL) probe::skip("no zero-copy sends that report their copies");
  probe::expect(sent.result > 0, "a send to a peer with room");
  probe::expect((sent.flags & IORING_CQE_F_MORE) != 0, "its result says that more follows");
  std::string taken(static_cast<std::size_t>(sent.result), '\0');
  probe::expect_equal(::recv(far.get(), taken.data(), taken.size(), MSG_WAITALL), sent.result,
                      "recv");
  const probe::completion notice = ring.wait();
  expect_notice(notice, 7);
  probe::expect(says_copied(notice), "on loopback the kernel copies, and says so");
}

void show_failure(probe::ring& ring, const probe::pages& memory) {
  auto [far, near] = probe::socket_pair();
  queue_send(ring, near.get(), memory, 8);
  const probe::completion refused = ring.wait();
  probe::expect_equal(refused.result, -EOPNOTSUPP, "a zero-copy send by AF_UNIX");
  if ((refused.flags & IORING_CQE_F_MORE) == 0) return;  // then it was the only answer
  expect_notice(ring.wait(), 8);
}

// Sends until nothing goes any more, and takes the notifications that come by themselves: of what
// the peer's kernel has. The number of those that do not come.
int fill(probe::ring& ring, int fd, const probe::pages& memory) {
  int outstanding = 0;
  for (bool full = false; !full;) {
    queue_send(ring, fd, memory, 9);
    ++outstanding;
    for (bool answered = false; !answered;) {
      const probe::completion seen = ring.wait();
      answered = (seen.flags & IORING_CQE_F_NOTIF) == 0;
      if (!answered || (seen.flags & IORING_CQE_F_MORE) == 0) --outstanding;
      if (answered) full = seen.result < static_cast<int>(block);
    }
  }
  while (const auto seen = ring.wait_for(soon_ms)) --outstanding;
  return outstanding;
}

void show_unread_bytes(probe::ring& ring, const probe::pages& memory) {
  auto [far, near] = probe::tcp_pair();
  int outstanding = fill(ring, near.get(), memory);
  probe::expect(outstanding > 1, "what a peer does not take is not notified of");
  probe::must(::shutdown(near.get(), SHUT_RDWR), "shutdown");
  probe::expect(!ring.wait_for(soon_ms), "nor after shutdown");
  const probe::descriptor kept(::dup(near.get()));
  near.close();
  probe::expect(!ring.wait_for(soon_ms), "nor after close of one descriptor");
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  probe::must(::connect(kept.get(), &nobody, sizeof nobody), "connect to nobody");
  bool uncopied = false;
  for (; outstanding > 0; --outstanding) {
    const probe::completion notice = ring.wait();
    expect_notice(notice, 9);
    uncopied |= !says_copied(notice);
  }
  probe::expect(uncopied, "what never left was not copied");
  char byte = 0;
  while (::recv(far.get(), &byte, 1, 0) > 0) continue;
  probe::expect_equal(-errno, -ECONNRESET, "the peer sees a reset");
}

void show_closed_socket(probe::ring& ring, const probe::pages& memory) {
  auto [far, near] = probe::tcp_pair();
  int outstanding = fill(ring, near.get(), memory);
  near.close();
  probe::expect(!ring.wait_for(soon_ms), "no notification after the last close");
  far.close();  // with unread bytes: a reset
  for (; outstanding > 0; --outstanding) expect_notice(ring.wait(), 9);
}

void show() {
  probe::ring ring;
  ring.require(IORING_OP_SEND_ZC, "IORING_OP_SEND_ZC");
  const probe::pages memory(block);
  show_taken_bytes(ring, memory);
  show_failure(ring, memory);
  show_unread_bytes(ring, memory);
  show_closed_socket(ring, memory);
}

}  // namespace

int main() { return probe::run(show); }
