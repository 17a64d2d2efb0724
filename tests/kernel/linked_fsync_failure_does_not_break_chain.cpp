// A failed fsync, rename, link, unlink or mkdir lets the next link of its chain run; a failed read
// stops it. So a chain fsync -> rename would publish a file whose sync has failed.
#include "probe.hpp"

namespace {

// The result of a NOP linked behind an op that must fail with `error`.
template <class Prepare>
int nop_behind(probe::ring& ring, int error, const char* name, Prepare&& failing_op) {
  ring.queue(1, failing_op, IOSQE_IO_LINK);
  ring.queue(2, [](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
  ring.submit();
  int nop_result = -1;
  for (int seen = 0; seen < 2; ++seen) {
    const probe::completion c = ring.wait();
    if (c.user_data == 1) probe::expect_equal(c.result, error, name);
    if (c.user_data == 2) nop_result = c.result;
  }
  return nop_result;
}

void show() {
  probe::ring ring;
  const probe::temp_dir dir;
  const auto [read_end, write_end] = probe::pipe_pair();
  const int at = dir.fd();

  const auto goes_on = [&](int opcode, int error, const char* name, auto prepare) {
    ring.require(opcode, name);
    probe::expect_equal(nop_behind(ring, error, name, prepare), 0,
                        std::string("NOP linked behind a failed ") + name);
  };
  goes_on(IORING_OP_FSYNC, -EINVAL, "fsync",
          [&](io_uring_sqe* sqe) { ::io_uring_prep_fsync(sqe, read_end.get(), 0); });
  goes_on(IORING_OP_FALLOCATE, -ESPIPE, "fallocate",
          [&](io_uring_sqe* sqe) { ::io_uring_prep_fallocate(sqe, write_end.get(), 0, 0, 4096); });
  goes_on(IORING_OP_RENAMEAT, -ENOENT, "renameat", [&](io_uring_sqe* sqe) {
    ::io_uring_prep_renameat(sqe, at, "missing", at, "target", 0);
  });
  goes_on(IORING_OP_LINKAT, -ENOENT, "linkat",
          [&](io_uring_sqe* sqe) { ::io_uring_prep_linkat(sqe, at, "missing", at, "target", 0); });
  goes_on(IORING_OP_UNLINKAT, -ENOENT, "unlinkat",
          [&](io_uring_sqe* sqe) { ::io_uring_prep_unlinkat(sqe, at, "missing", 0); });
  goes_on(IORING_OP_MKDIRAT, -ENOENT, "mkdirat",
          [&](io_uring_sqe* sqe) { ::io_uring_prep_mkdirat(sqe, at, "missing/child", 0700); });

  // The contrast that makes the above a trap.
  char byte = 0;
  const int behind_read = nop_behind(ring, -EBADF, "read of a write end", [&](io_uring_sqe* sqe) {
    ::io_uring_prep_read(sqe, write_end.get(), &byte, 1, 0);
  });
  probe::expect_equal(behind_read, -ECANCELED, "NOP linked behind a failed read");
}

}  // namespace

int main() { return probe::run(show); }
