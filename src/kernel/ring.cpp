#include "kernel/ring.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "kernel/buffer_ring.hpp"

namespace sluice::kernel {
namespace {

struct wanted_flag {
  unsigned bit;
  const char* name;
};

// In the order in which they are given up: TASKRUN_FLAG needs DEFER_TASKRUN, and that needs
// SINGLE_ISSUER.
constexpr std::array<wanted_flag, 4> wanted_flags{{
    {IORING_SETUP_TASKRUN_FLAG, "ring.taskrun_flag"},
    {IORING_SETUP_DEFER_TASKRUN, "ring.defer_taskrun"},
    {IORING_SETUP_SINGLE_ISSUER, "ring.single_issuer"},
    {IORING_SETUP_SUBMIT_ALL, "ring.submit_all"},
}};

constexpr unsigned entries_min = 8;
constexpr unsigned completion_entries_min = 16;  // of sluice.ring.completion_entries

}  // namespace

ring_options halved(const ring_options& refused) {
  ring_options smaller = refused;
  smaller.entries = std::max(refused.entries / 2, entries_min);
  smaller.completion_entries =
      std::max({refused.completion_entries / 2, smaller.entries, completion_entries_min});
  return smaller;
}

// Disabled at first, so that the thread that runs it becomes its owner and not the one that made it
// (kernel-notes/ring_belongs_to_who_enables_it.md).
int ring::set_up(const ring_options& options, unsigned flags) {
  io_uring_params params{};
  params.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = std::max(options.completion_entries, options.entries);
  return -io_uring_queue_init_params(options.entries, &ring_, &params);
}

result<ring> ring::make(const ring_options& options) {
  ring made;
  unsigned flags = 0;
  for (const wanted_flag& wanted : wanted_flags) flags |= wanted.bit;
  ring_options fitting = options;
  int refusal = made.set_up(fitting, flags);
  for (const wanted_flag& wanted : wanted_flags) {
    if (refusal != EINVAL) break;  // kernel-notes/setup_flags_refused.md
    flags &= ~wanted.bit;
    refusal = made.set_up(fitting, flags);
  }
  while (refusal == ENOMEM && fitting.entries > entries_min) {
    fitting = halved(fitting);
    refusal = made.set_up(fitting, flags);
  }
  if (refusal != 0) return fail(refusal, "io_uring_setup", "engine start");
  made.made_ = true;
  made.tells_what_is_due_ = (flags & IORING_SETUP_TASKRUN_FLAG) != 0;
  if (const int failed = made.try_enter(); failed != 0) {
    return fail(failed, "io_uring_enter", "engine start");
  }
  for (const wanted_flag& wanted : wanted_flags) {
    const bool present = (flags & wanted.bit) != 0;
    made.features_.push_back(
        {wanted.name, present, present ? "" : "EINVAL: refused by io_uring_setup"});
  }
  const bool full_size = fitting.entries == options.entries;
  made.features_.push_back({"ring.full_size", full_size,
                            full_size ? "" : "ENOMEM: RLIMIT_MEMLOCK allows only a smaller ring"});
  const bool lossless = (made.ring_.features & IORING_FEAT_NODROP) != 0;
  made.features_.push_back(
      {"ring.no_drop", lossless, lossless ? "" : "IORING_FEAT_NODROP missing"});
  std::array<unsigned, 2> workers{options.workers_max, options.workers_max};
  const int capped = io_uring_register_iowq_max_workers(&made.ring_, workers.data());
  made.features_.push_back({"ring.workers_cap", capped >= 0,
                            capped >= 0 ? "" : "io_uring_register: IOWQ_MAX_WORKERS refused"});
  return made;
}

// Nothing is submitted: that the call gets through to the ring, which is still disabled, is the
// answer.
int ring::try_enter() {
  const int answer = io_uring_enter(static_cast<unsigned>(ring_.ring_fd), 0, 0, 0, nullptr);
  return answer == -EBADFD ? 0 : -answer;
}

// The ring's descriptor is not registered, though that saves its look-up in every enter: it is then
// a number of its owner, and what another thread asks goes to a ring of that one's own, unseen.
int ring::own() {
  if (owned_) return 0;
  // The raw call: liburing 2.3 declares io_uring_enable_rings and does not export it.
  if (::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) <
      0) {
    return errno;
  }
  owned_ = true;
  return 0;
}

ring::ring(ring&& other) noexcept
    : ring_(other.ring_),
      made_(std::exchange(other.made_, false)),
      owned_(other.owned_),
      tells_what_is_due_(other.tells_what_is_due_),
      features_(std::move(other.features_)) {}

ring::~ring() {
  if (made_) io_uring_queue_exit(&ring_);
}

int ring::submit() {
  if (const int refusal = own(); refusal != 0) return refusal;
  const int submitted = io_uring_submit(&ring_);
  return submitted < 0 ? -submitted : 0;
}

bool ring::has_to_be_entered() const {
  if (!owned_ || !tells_what_is_due_ || staged() > 0) return true;
  const unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
  return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

int ring::submit_and_wait(std::int64_t timeout_ns) {
  if (const int refusal = own(); refusal != 0) return refusal;
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

int ring::register_buffers(unsigned short group, buffer_ring& buffers) {
  io_uring_buf_reg wanted{};
  wanted.ring_addr = reinterpret_cast<std::uintptr_t>(buffers.entries());
  wanted.ring_entries = buffers.entry_count();
  wanted.bgid = group;
  return -io_uring_register_buf_ring(&ring_, &wanted, 0);
}

void ring::unregister_buffers(unsigned short group) {
  static_cast<void>(io_uring_unregister_buf_ring(&ring_, group));
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
