// With IORING_FEAT_NODROP completions beyond the size of the CQ wait in the kernel: none is lost,
// the ring says IORING_SQ_CQ_OVERFLOW, and entering the kernel brings them once there is room.
#include <vector>

#include "probe.hpp"

namespace {

constexpr unsigned cq_entries = 16;
constexpr unsigned ops = 3 * cq_entries;

void show() {
  probe::ring ring(8);  // the CQ has twice the entries of the SQ
  if ((ring.get()->features & IORING_FEAT_NODROP) == 0) probe::skip("no IORING_FEAT_NODROP");
  probe::expect_equal(*ring.get()->cq.kring_entries, cq_entries, "entries of the CQ");

  for (unsigned i = 0; i < ops; ++i) {
    ring.queue(i, [](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
    ring.submit();
  }
  probe::expect_equal(::io_uring_cq_ready(ring.get()), cq_entries, "completions in a full CQ");
  probe::expect(::io_uring_cq_has_overflow(ring.get()), "IORING_SQ_CQ_OVERFLOW is set");

  for (unsigned i = 0; i < ops; ++i) {
    probe::expect_equal(static_cast<long>(ring.wait().user_data), i, "the completions in order");
  }
  probe::expect(!::io_uring_cq_has_overflow(ring.get()), "IORING_SQ_CQ_OVERFLOW is cleared");
  probe::expect_equal(*ring.get()->cq.koverflow, 0, "lost completions");
}

}  // namespace

int main() { return probe::run(show); }
