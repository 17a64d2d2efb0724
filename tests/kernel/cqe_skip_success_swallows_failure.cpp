// With IOSQE_CQE_SKIP_SUCCESS a failed fsync posts no CQE at all; a failed read still does.
#include "probe.hpp"

namespace {

void show() {
  probe::ring ring;
  if ((ring.get()->features & IORING_FEAT_CQE_SKIP) == 0) {
    probe::skip("IOSQE_CQE_SKIP_SUCCESS is not known to this kernel");
  }
  const auto [read_end, write_end] = probe::pipe_pair();
  const auto fsync_of_pipe = [&](io_uring_sqe* sqe) {
    ::io_uring_prep_fsync(sqe, read_end.get(), 0);
  };
  probe::expect_equal(ring.perform(fsync_of_pipe), -EINVAL, "fsync of a pipe");

  // The linked NOP runs once the fsync has ended, so its CQE says that no other one will come.
  ring.queue(1, fsync_of_pipe, IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK);
  ring.queue(2, [](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
  ring.submit();
  const probe::completion nop = ring.wait();
  probe::expect_equal(static_cast<long>(nop.user_data), 2, "the first CQE is the NOP's");
  probe::expect_equal(nop.result, 0, "the NOP behind the failed fsync");
  probe::expect(!ring.wait_for(20).has_value(), "the failed fsync posts no CQE");

  char byte = 0;
  const auto read_of_write_end = [&](io_uring_sqe* sqe) {
    ::io_uring_prep_read(sqe, write_end.get(), &byte, 1, 0);
  };
  probe::expect_equal(ring.perform(read_of_write_end, IOSQE_CQE_SKIP_SUCCESS), -EBADF,
                      "a failed read with IOSQE_CQE_SKIP_SUCCESS");
}

}  // namespace

int main() { return probe::run(show); }
