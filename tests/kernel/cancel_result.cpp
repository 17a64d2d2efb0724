// A cancelled receive answers -ECANCELED, or the bytes it already has with MSG_WAITALL; the cancel
// itself answers 0, and -ENOENT when the op has already ended. Both post a CQE of their own. An op
// that blocks in a worker is interrupted: -EALREADY on the cancel, and -512 may come on the op.
#include "probe.hpp"

namespace {

constexpr std::uint64_t target = 1;
constexpr int erestartsys = 512;  // an errno of the kernel's own, not in errno.h

struct answers {
  int of_target;
  int of_cancel;
};

answers cancel(probe::ring& ring) {
  ring.queue(2, [](io_uring_sqe* sqe) { ::io_uring_prep_cancel64(sqe, target, 0); });
  ring.submit();
  answers seen{};
  for (int count = 0; count < 2; ++count) {
    const probe::completion c = ring.wait();
    (c.user_data == target ? seen.of_target : seen.of_cancel) = c.result;
  }
  return seen;
}

void show() {
  probe::ring ring;
  const auto [near, far] = probe::socket_pair();
  char buffer[64];
  const auto receive = [&](int flags) {
    ring.queue(target, [&](io_uring_sqe* sqe) {
      ::io_uring_prep_recv(sqe, near.get(), buffer, sizeof buffer, flags);
    });
    ring.submit();
  };

  receive(0);
  const answers waiting = cancel(ring);
  probe::expect_equal(waiting.of_target, -ECANCELED, "a waiting receive, cancelled");
  probe::expect_equal(waiting.of_cancel, 0, "the cancel of a waiting receive");

  probe::send_all(far.get(), "part");
  receive(MSG_WAITALL);
  const answers partial = cancel(ring);
  probe::expect_equal(partial.of_target, 4, "a receive with MSG_WAITALL and a part, cancelled");
  probe::expect_equal(partial.of_cancel, 0, "the cancel of a receive with a part");

  // The op has its bytes before the cancel is looked at, whatever order the CQEs are read in.
  probe::send_all(far.get(), "all");
  receive(0);
  const answers ended = cancel(ring);
  probe::expect_equal(ended.of_target, 3, "a receive that ended before its cancel");
  probe::expect_equal(ended.of_cancel, -ENOENT, "the cancel of an ended receive");

  const auto [empty_read, empty_write] = probe::pipe_pair();
  const auto [target_read, target_write] = probe::pipe_pair();
  ring.queue(target, [&](io_uring_sqe* sqe) {
    ::io_uring_prep_splice(sqe, empty_read.get(), -1, target_write.get(), -1, 1, 0);
  });
  ring.submit();
  ring.wait_for(50);  // for a worker to begin it; before that the cancel is a plain one
  const answers blocking = cancel(ring);
  std::printf("a splice that blocks in a worker, cancelled: %s, the cancel: %s\n",
              probe::in_words(blocking.of_target).c_str(),
              probe::in_words(blocking.of_cancel).c_str());
  if (blocking.of_cancel == 0) {
    probe::expect_equal(blocking.of_target, -ECANCELED, "a splice cancelled before it began");
  } else {
    probe::expect_equal(blocking.of_cancel, -EALREADY, "the cancel of a splice that blocks");
    probe::expect(blocking.of_target == -erestartsys || blocking.of_target == -EINTR ||
                      blocking.of_target == -ECANCELED,
                  "the splice is interrupted, got " + probe::in_words(blocking.of_target));
  }
}

}  // namespace

int main() { return probe::run(show); }
