// On a ring with DEFER_TASKRUN completions appear only when the owning thread enters the kernel;
// another thread that submits or asks for completions is told EEXIST (SINGLE_ISSUER).
#include <sys/syscall.h>

#include <thread>

#include "probe.hpp"

namespace {

// The raw call: the library would touch the queues, which belong to the owner.
long enter(int ring_fd, unsigned to_submit, unsigned wanted, unsigned flags) {
  return probe::result_of(
      ::syscall(SYS_io_uring_enter, ring_fd, to_submit, wanted, flags, nullptr, 0));
}

template <class Body>
long in_other_thread(Body&& body) {
  long answer = 0;
  std::thread([&] { answer = body(); }).join();
  return answer;
}

void show() {
  probe::ring ring(8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  const auto [near, far] = probe::socket_pair();
  char byte = 0;
  ring.queue(1, [&](io_uring_sqe* sqe) { ::io_uring_prep_recv(sqe, near.get(), &byte, 1, 0); });
  ring.submit();
  probe::send_all(far.get(), "x");

  // Any system call runs the deferred work of a ring without the flag; here it may not.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  probe::expect_equal(::io_uring_cq_ready(ring.get()), 0, "CQEs before the owner enters");

  const long asked =
      in_other_thread([&] { return enter(ring.fd(), 0, 0, IORING_ENTER_GETEVENTS); });
  probe::expect_equal(asked, -EEXIST, "asking for completions in another thread");
  ::io_uring_prep_nop(::io_uring_get_sqe(ring.get()));
  const long submitted = in_other_thread([&] { return enter(ring.fd(), 1, 0, 0); });
  probe::expect_equal(submitted, -EEXIST, "submitting in another thread");
  probe::expect_equal(::io_uring_cq_ready(ring.get()), 0, "CQEs after the other threads' calls");

  probe::expect_equal(::io_uring_get_events(ring.get()), 0, "io_uring_get_events by the owner");
  probe::expect_equal(::io_uring_cq_ready(ring.get()), 1, "CQEs once the owner has entered");
  probe::expect_equal(ring.wait().result, 1, "the receive");
}

}  // namespace

int main() { return probe::run(show); }
