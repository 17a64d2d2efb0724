// A seccomp filter's errno is what io_uring_setup(2) answers, so the reason of a refusal can be
// told. A filter may let the set-up through and refuse the rest: only a real op shows that.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>

#include "probe.hpp"

namespace {

void refuse(unsigned call, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = 4, .filter = filter};
  probe::must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
    probe::skip("no seccomp filters here: " + probe::in_words(-errno));
  }
}

int setup() {
  io_uring ring{};
  const int refused = ::io_uring_queue_init(8, &ring, 0);
  if (refused == 0) ::io_uring_queue_exit(&ring);
  return refused;
}

void show() {
  if (const int refused = setup(); refused < 0) {
    probe::skip("rings are refused already: " + probe::in_words(refused));
  }
  for (const int error : {EPERM, ENOSYS, EACCES}) {
    probe::in_child([error] {
      probe::ring made_before;
      refuse(SYS_io_uring_setup, error);
      probe::expect_equal(setup(), -error, "io_uring_setup under the filter");
      const int nop = made_before.perform([](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
      probe::expect_equal(nop, 0, "an op on a ring made before the filter");
    });
  }
  probe::in_child([] {
    refuse(SYS_io_uring_enter, EPERM);
    io_uring ring{};
    probe::expect_equal(::io_uring_queue_init(8, &ring, 0), 0,
                        "set-up where only enter is refused");
    ::io_uring_prep_nop(::io_uring_get_sqe(&ring));
    probe::expect_equal(::io_uring_submit(&ring), -EPERM, "the first submission");
  });
  probe::in_child([] {
    refuse(SYS_io_uring_register, EPERM);
    probe::ring ring;
    int fd = 0;
    probe::expect_equal(::io_uring_register_files(ring.get(), &fd, 1), -EPERM, "a registration");
    const int nop = ring.perform([](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
    probe::expect_equal(nop, 0, "an op where only registration is refused");
  });
}

}  // namespace

int main() { return probe::run(show); }
