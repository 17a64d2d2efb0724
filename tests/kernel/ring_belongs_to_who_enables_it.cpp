// A ring made disabled refuses everybody with EBADFD until one thread enables it; that thread owns
// it from then on and all others, its maker too, are told EEXIST.
#include <sys/syscall.h>

#include <thread>

#include "probe.hpp"

namespace {

// The raw call: the library would touch the queues, which belong to the owner.
long enter(int ring_fd) {
  return probe::result_of(
      ::syscall(SYS_io_uring_enter, ring_fd, 0, 0, IORING_ENTER_GETEVENTS, nullptr, 0));
}

// Raw as well: liburing 2.3 declares io_uring_enable_rings and does not export it.
long enable(int ring_fd) {
  return probe::result_of(
      ::syscall(SYS_io_uring_register, ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
}

template <class Body>
long in_other_thread(Body&& body) {
  long answer = 0;
  std::thread([&] { answer = body(); }).join();
  return answer;
}

void show() {
  probe::ring ring(
      8, IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  probe::expect_equal(enter(ring.fd()), -EBADFD, "its maker enters while it is disabled");
  probe::expect_equal(::io_uring_register_buffers_sparse(ring.get(), 4), 0,
                      "its maker registers while it is disabled");

  const long by_another = in_other_thread([&] {
    probe::expect_equal(enter(ring.fd()), -EBADFD, "another enters while it is disabled");
    probe::expect_equal(enable(ring.fd()), 0, "another enables it");
    return enter(ring.fd());
  });
  probe::expect_equal(by_another, 0, "the one that enabled it enters");
  probe::expect_equal(enter(ring.fd()), -EEXIST, "its maker enters after that");
  probe::expect_equal(::io_uring_unregister_buffers(ring.get()), -EEXIST,
                      "its maker registers after that");
}

}  // namespace

int main() { return probe::run(show); }
