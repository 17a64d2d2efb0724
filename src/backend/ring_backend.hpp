// Carries ops by io_uring, and by the worker pool what this kernel's ring cannot do.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "backend/backend.hpp"
#include "backend/worker_pool.hpp"
#include "kernel/capabilities.hpp"
#include "kernel/epoll.hpp"
#include "kernel/fd.hpp"
#include "kernel/ring.hpp"
#include "ops/table.hpp"
#include "tuning/counter_values.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

struct op_row;

class ring_backend final : public backend {
 public:
  // Makes the ring and tries what it can do, noting each find in `found`. The error is
  // io_uring_setup(2)'s.
  static result<std::unique_ptr<ring_backend>> make(const tuning::ring_knobs& ring_settings,
                                                    const tuning::pool_knobs& pool_settings,
                                                    tuning::counters& counters,
                                                    kernel::capability_table& found);
  // From parts made before; use make().
  ring_backend(kernel::ring made, kernel::wake_fd wake, const tuning::pool_knobs& pool_settings,
               tuning::counters& counters);
  ~ring_backend() override;

  bool start(op& o) override;
  void cancel(op& o) override;
  void wait(std::int64_t timeout_ns, op_list& answered) override;
  bool calls_at_once(const op_request& request) const override {
    return carrier_of(request) == carrier::inline_call;
  }
  void wake() override { wake_fd_.ring(); }
  int poll_fd() override;
  std::size_t polls_max() const override;
  kernel::socket_mode socket_mode() const override { return kernel::socket_mode::blocking; }
  std::string_view name() const override { return "ring"; }

  // Told, before the process is aborted, why the ring can carry nothing any more.
  void on_failure(void (*tell)(void* context, std::string_view text), void* context) {
    tell_failure_ = tell;
    failure_context_ = context;
  }

  // Fixed buffers, see kernel::ring; an errno, 0 when done.
  int open_buffer_table(unsigned slots) { return ring_.open_buffer_table(slots); }
  int register_buffer(unsigned slot, iovec range) { return ring_.register_buffer(slot, range); }
  // Provided buffers, see kernel::ring, ENOBUFS while there is no room for them; at most
  // buffers_max() of them, because room is kept in the completion queue for an answer with each.
  [[nodiscard]] std::size_t buffers_max() const { return ring_.completion_entries() / 16; }
  int register_buffers(unsigned short group, kernel::buffer_ring& buffers);
  void unregister_buffers(unsigned short group, const kernel::buffer_ring& buffers);

 private:
  // Both: the name of an operation without which this ring is of no use, or null.
  const char* find_capabilities(kernel::capability_table& found);
  const char* find_operations(const kernel::capability_table& found,
                              const std::vector<bool>& supported);
  bool has_room(const op& o) const;
  io_uring_sqe* entry();
  void entered(int refusal);
  void hand_over_cancels();
  void arm_wake();
  void answer(std::uint64_t user_data, int result, unsigned flags, op_list& answered);
  void answer_op(op& o, int result, unsigned flags, op_list& answered);

  // Never change after the start.
  kernel::wake_fd wake_fd_;
  // What a foreign loop sleeps on.
  struct guest_fds {
    kernel::wake_fd due;  // signalled by the kernel when there is something to wait for
    kernel::epoll both;   // it and wake_fd_
  };
  std::optional<guest_fds> guest_;
  std::array<const op_row*, op_kind_count> rows_{};  // what the ring does of each kind, null: none
  void (*tell_failure_)(void* context, std::string_view text) = nullptr;
  void* failure_context_ = nullptr;
  // Loop thread.
  kernel::ring ring_;
  tuning::counters& counters_;
  op_list cancels_;  // ops in flight that are to end, of which the ring does not know yet
  // Each will have a completion; together with the wake-up never more than the queue holds.
  std::size_t in_flight_ = 0;  // of ops, polls included; a zero-copy send has two
  std::size_t polls_in_flight_ = 0;
  std::size_t cancels_in_flight_ = 0;
  bool short_of_entries_ = false;  // since the last wait: the submission queue stayed full
  bool wake_armed_ = false;
  op_list answered_now_;  // by a call that never waits
  worker_pool workers_;   // last: its threads call wake()
};

}  // namespace sluice
