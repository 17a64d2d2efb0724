// io_uring_get_events on a DEFER_TASKRUN ring posts a batch (20 on Linux 6.18), not all that is
// due. IORING_SQ_TASKRUN stays set while more is due; no further signal comes for what was left.
#include <sys/eventfd.h>

#include <vector>

#include "probe.hpp"

namespace {

constexpr unsigned ops = 100;

void show() {
  probe::ring ring(
      128, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
  const probe::descriptor signal(
      static_cast<int>(probe::must(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")));
  probe::expect_equal(::io_uring_register_eventfd(ring.get(), signal.get()), 0, "register_eventfd");
  const auto read_signal = [&] {
    std::uint64_t count = 0;
    return ::read(signal.get(), &count, sizeof count) > 0;
  };
  const auto more_is_due = [&] {
    const unsigned flags = __atomic_load_n(ring.get()->sq.kflags, __ATOMIC_RELAXED);
    return (flags & IORING_SQ_TASKRUN) != 0;
  };

  std::vector<probe::descriptor_pair> pairs;
  char bytes[ops];
  for (unsigned i = 0; i < ops; ++i) {
    pairs.push_back(probe::socket_pair());
    ring.queue(i, [&](io_uring_sqe* sqe) {
      ::io_uring_prep_recv(sqe, pairs.back().first.get(), &bytes[i], 1, 0);
    });
  }
  ring.submit();
  for (const auto& [near, far] : pairs) probe::send_all(far.get(), "x");
  probe::expect(more_is_due(), "IORING_SQ_TASKRUN is set when work falls due");

  unsigned posted = 0;
  unsigned turns = 0;
  for (; posted < ops && turns < ops; ++turns) {
    probe::expect_equal(::io_uring_get_events(ring.get()), 0, "io_uring_get_events");
    const unsigned batch = ::io_uring_cq_ready(ring.get());
    if (turns == 0) std::printf("first batch: %u of %u\n", batch, ops);
    probe::expect(batch > 0, "each turn posts some");
    ::io_uring_cq_advance(ring.get(), batch);
    posted += batch;
    probe::expect(more_is_due() == (posted < ops), "IORING_SQ_TASKRUN tells whether more is due");
    read_signal();  // what the posting itself has signalled
    probe::expect(!read_signal(), "nothing signals what is left");
  }
  probe::expect_equal(posted, ops, "all completions");
}

}  // namespace

int main() { return probe::run(show); }
