// Without IORING_SETUP_SUBMIT_ALL a submission stops behind an entry that the kernel refuses, and
// reports fewer than were queued; with it the rest of the batch goes on. The refusal is a CQE.
#include "probe.hpp"

namespace {

constexpr std::uint64_t refused_entry = 1;

// Submits NOP, an entry with an unknown opcode, NOP: how many were taken.
int submit_batch(probe::ring& ring) {
  const auto nop = [](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); };
  ring.queue(0, nop);
  ring.queue(refused_entry, [&](io_uring_sqe* sqe) {
    nop(sqe);
    sqe->opcode = 255;
  });
  ring.queue(2, nop);
  return ring.submit();
}

void expect_completions(probe::ring& ring, unsigned count) {
  probe::expect_equal(::io_uring_cq_ready(ring.get()), count, "completions of the batch");
  for (unsigned seen = 0; seen < count; ++seen) {
    const probe::completion c = ring.wait();
    probe::expect_equal(c.result, c.user_data == refused_entry ? -EINVAL : 0, "a completion");
  }
}

void show() {
  probe::ring stopping;
  probe::expect_equal(submit_batch(stopping), 2, "taken without SUBMIT_ALL");
  expect_completions(stopping, 2);
  probe::expect_equal(stopping.submit(), 1, "taken by a second submission");
  expect_completions(stopping, 1);

  probe::ring going_on(8, IORING_SETUP_SUBMIT_ALL);
  probe::expect_equal(submit_batch(going_on), 3, "taken with SUBMIT_ALL");
  expect_completions(going_on, 3);
}

}  // namespace

int main() { return probe::run(show); }
