// One io_uring instance: set-up with what this kernel takes, submission, completion, registration.
// Any thread makes it and registers with it; the first that submits or waits owns it from then on,
// and everything is for that thread alone (kernel-notes/ring_belongs_to_who_enables_it.md).
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sluice/result.hpp"

namespace sluice::kernel {

class buffer_ring;

struct ring_options {
  unsigned entries = 256;
  unsigned completion_entries = 4096;
  unsigned workers_max = 16;
};

// A set-up flag and whether this kernel took it.
struct ring_feature {
  const char* name;
  bool present;
  std::string reason;
};

// What is tried after `refused` was ENOMEM: both queues count against RLIMIT_MEMLOCK
// (kernel-notes/memlock_limits_registration.md). Never so small that no op has room.
[[nodiscard]] ring_options halved(const ring_options& refused);

class ring {
 public:
  // Tries every flag that helps and drops those refused; on ENOMEM makes a smaller ring; then tries
  // to enter it, because a filter may allow the set-up and refuse the rest. The error is that of
  // the plainest ring possible: EPERM, ENOSYS, ENOMEM, EINVAL.
  static result<ring> make(const ring_options& options);
  ring(ring&& other) noexcept;
  ring& operator=(ring&&) = delete;
  ~ring();

  [[nodiscard]] unsigned completion_entries() const { return ring_.cq.ring_entries; }
  [[nodiscard]] unsigned submission_entries() const { return ring_.sq.ring_entries; }
  [[nodiscard]] int fd() const { return ring_.ring_fd; }
  [[nodiscard]] const std::vector<ring_feature>& features() const { return features_; }

  // An empty entry, or null while the submission queue is full: submit first.
  [[nodiscard]] io_uring_sqe* entry() { return io_uring_get_sqe(&ring_); }
  [[nodiscard]] unsigned staged() const { return io_uring_sq_ready(&ring_); }

  // Hands the staged entries over and waits until one completion is there or `timeout_ns` has
  // passed (negative: no limit, 0: only what is ready). Returns 0 or the errno of
  // io_uring_enter(2); ETIME and EINTR are no errors. EEXIST: another thread owns the ring.
  [[nodiscard]] int submit_and_wait(std::int64_t timeout_ns);
  // False: submit_and_wait(0) would hand over nothing and bring nothing that harvest does not find
  // without it (kernel-notes/deferred_work_runs_in_batches.md).
  [[nodiscard]] bool has_to_be_entered() const;
  [[nodiscard]] int submit();

  // Calls seen(user_data, result, flags) for each completion that is ready and releases them all at
  // once.
  template <class Seen>
  unsigned harvest(Seen seen) {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      seen(cqe->user_data, cqe->res, cqe->flags);
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }
  [[nodiscard]] bool overflown() const { return io_uring_cq_has_overflow(&ring_); }

  // A table of `slots` fixed buffers, all empty at first; and what fills one. An errno, 0 when
  // done.
  int open_buffer_table(unsigned slots);
  int register_buffer(unsigned slot, iovec range);
  // Receives that name `group` take their memory from `buffers`, which must stay where it is until
  // unregister_buffers. An errno, 0 when done (EINVAL: before Linux 5.19; ENOMEM; EEXIST).
  int register_buffers(unsigned short group, buffer_ring& buffers);
  void unregister_buffers(unsigned short group);
  // Has the kernel signal `eventfd` when completions fall due; an errno, 0 when done.
  int register_eventfd(int eventfd) { return -io_uring_register_eventfd(&ring_, eventfd); }
  // Which opcodes the kernel knows, index = opcode.
  [[nodiscard]] std::vector<bool> supported_opcodes();

 private:
  ring() = default;
  int set_up(const ring_options& options, unsigned flags);
  int try_enter();
  int own();
  io_uring ring_{};
  bool made_ = false;
  bool owned_ = false;              // a thread has submitted or waited
  bool tells_what_is_due_ = false;  // by IORING_SQ_TASKRUN
  std::vector<ring_feature> features_;
};

}  // namespace sluice::kernel
