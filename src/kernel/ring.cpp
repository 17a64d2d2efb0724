#include "kernel/ring.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace sluice::kernel {
namespace {

struct wanted_flag {
  unsigned bit;
  const char* name;
};

// In the order in which they are given up. DEFER_TASKRUN needs SINGLE_ISSUER, so it goes first.
constexpr std::array<wanted_flag, 3> wanted_flags{{
    {IORING_SETUP_DEFER_TASKRUN, "ring.defer_taskrun"},
    {IORING_SETUP_SINGLE_ISSUER, "ring.single_issuer"},
    {IORING_SETUP_SUBMIT_ALL, "ring.submit_all"},
}};

constexpr unsigned entries_min = 8;

}  // namespace

int ring::set_up(unsigned entries, const ring_options& options, unsigned flags) {
  io_uring_params params{};
  params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = std::max(options.completion_entries, entries);
  return -io_uring_queue_init_params(entries, &ring_, &params);
}

result<ring> ring::make(const ring_options& options) {
  ring made;
  unsigned flags = 0;
  for (const wanted_flag& wanted : wanted_flags) flags |= wanted.bit;
  unsigned entries = options.entries;
  int refusal = made.set_up(entries, options, flags);
  for (const wanted_flag& wanted : wanted_flags) {
    if (refusal != EINVAL) break;  // kernel-notes/setup_flags_refused.md
    flags &= ~wanted.bit;
    refusal = made.set_up(entries, options, flags);
  }
  ring_options smaller = options;
  while (refusal == ENOMEM && entries > entries_min) {
    // Both queues count against RLIMIT_MEMLOCK (kernel-notes/memlock_limits_registration.md).
    entries /= 2;
    smaller.completion_entries = std::max(smaller.completion_entries / 2, entries);
    refusal = made.set_up(entries, smaller, flags);
  }
  if (refusal != 0) return fail(refusal, "io_uring_setup", "engine start");
  made.made_ = true;
  if (const int failed = made.try_nop(); failed != 0) {
    return fail(failed, "io_uring_enter", "engine start");
  }
  for (const wanted_flag& wanted : wanted_flags) {
    const bool present = (flags & wanted.bit) != 0;
    made.features_.push_back(
        {wanted.name, present, present ? "" : "EINVAL: refused by io_uring_setup"});
  }
  const bool full_size = entries == options.entries;
  made.features_.push_back({"ring.full_size", full_size,
                            full_size ? "" : "ENOMEM: RLIMIT_MEMLOCK allows only a smaller ring"});
  const bool lossless = (made.ring_.features & IORING_FEAT_NODROP) != 0;
  made.features_.push_back(
      {"ring.no_drop", lossless, lossless ? "" : "IORING_FEAT_NODROP missing"});
  std::array<unsigned, 2> workers{options.workers_max, options.workers_max};
  const int capped = io_uring_register_iowq_max_workers(&made.ring_, workers.data());
  made.features_.push_back({"ring.workers_cap", capped >= 0,
                            capped >= 0 ? "" : "io_uring_register: IOWQ_MAX_WORKERS refused"});
  // A registered ring descriptor saves its look-up in every enter; without it all works the same.
  const bool registered_fd = io_uring_register_ring_fd(&made.ring_) == 1;
  made.features_.push_back({"ring.registered_fd", registered_fd, registered_fd ? "" : "refused"});
  return made;
}

int ring::try_nop() {
  io_uring_prep_nop(io_uring_get_sqe(&ring_));
  const int submitted = io_uring_submit_and_wait(&ring_, 1);
  if (submitted < 0) return -submitted;
  int outcome = EINVAL;
  harvest([&](std::uint64_t, int result, unsigned) { outcome = -result; });
  return outcome;
}

ring::ring(ring&& other) noexcept
    : ring_(other.ring_),
      made_(std::exchange(other.made_, false)),
      features_(std::move(other.features_)) {}

ring::~ring() {
  if (made_) io_uring_queue_exit(&ring_);
}

int ring::submit() {
  const int submitted = io_uring_submit(&ring_);
  return submitted < 0 ? -submitted : 0;
}

int ring::submit_and_wait(std::int64_t timeout_ns) {
  int answer = 0;
  if (timeout_ns == 0) {
    answer = io_uring_submit_and_get_events(&ring_);
  } else {
    io_uring_cqe* first = nullptr;
    __kernel_timespec limit{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    answer = io_uring_submit_and_wait_timeout(&ring_, &first, 1, timeout_ns < 0 ? nullptr : &limit,
                                              nullptr);
  }
  if (answer >= 0 || answer == -ETIME || answer == -EINTR) return 0;
  return -answer;
}

int ring::open_buffer_table(unsigned slots) {
  return -io_uring_register_buffers_sparse(&ring_, slots);
}

int ring::register_buffer(unsigned slot, iovec range) {
  __u64 tag = 0;
  const int updated = io_uring_register_buffers_update_tag(&ring_, slot, &range, &tag, 1);
  return updated < 0 ? -updated : 0;
}

std::vector<bool> ring::supported_opcodes() {
  std::vector<bool> supported(256, false);
  io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
  if (probe == nullptr) return supported;
  for (unsigned opcode = 0; opcode < supported.size(); ++opcode) {
    supported[opcode] = io_uring_opcode_supported(probe, static_cast<int>(opcode)) != 0;
  }
  io_uring_free_probe(probe);
  return supported;
}

}  // namespace sluice::kernel
