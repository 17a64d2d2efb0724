// A set-up flag that the kernel does not know, or a combination it forbids, is EINVAL and never
// ignored; too many entries are EINVAL unless IORING_SETUP_CLAMP asks for the largest ring.
#include <sys/syscall.h>

#include "probe.hpp"

namespace {

struct outcome {
  long result;  // 0 or -errno
  io_uring_params granted;
};

outcome setup(unsigned entries, unsigned flags, unsigned cq_entries = 0) {
  io_uring_params params{};
  params.flags = flags;
  params.cq_entries = cq_entries;
  const long fd = probe::result_of(::syscall(SYS_io_uring_setup, entries, &params));
  if (fd >= 0) ::close(static_cast<int>(fd));
  return {fd < 0 ? fd : 0, params};
}

void show() {
  if (const long plain = setup(8, 0).result; plain < 0) {
    probe::skip("rings are refused: " + probe::in_words(plain));
  }
  constexpr unsigned unknown_flag = 1U << 31;
  constexpr unsigned too_many = 1U << 20;
  probe::expect_equal(setup(8, unknown_flag).result, -EINVAL, "an unknown set-up flag");
  probe::expect_equal(setup(0, 0).result, -EINVAL, "a ring without entries");
  probe::expect_equal(setup(too_many, 0).result, -EINVAL, "too many entries");
  probe::expect_equal(setup(8, IORING_SETUP_CQSIZE, 4).result, -EINVAL, "CQ smaller than SQ");
  probe::expect_equal(setup(8, IORING_SETUP_DEFER_TASKRUN).result, -EINVAL,
                      "DEFER_TASKRUN without SINGLE_ISSUER");

  const outcome sized = setup(5, IORING_SETUP_CQSIZE, 100);
  probe::expect_equal(sized.result, 0, "a ring with a CQ size");
  probe::expect_equal(sized.granted.sq_entries, 8, "SQ entries are rounded up to a power of two");
  probe::expect_equal(sized.granted.cq_entries, 128, "CQ entries are rounded up as well");

  const outcome clamped = setup(too_many, IORING_SETUP_CLAMP);
  if (clamped.result == -ENOMEM) return;  // RLIMIT_MEMLOCK: the entries as such were taken
  probe::expect_equal(clamped.result, 0, "too many entries with IORING_SETUP_CLAMP");
  probe::expect(clamped.granted.sq_entries < too_many, "the ring is clamped");
}

}  // namespace

int main() { return probe::run(show); }
