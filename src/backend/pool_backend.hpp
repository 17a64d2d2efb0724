// Carries ops without io_uring: sockets by trying and epoll on the loop thread, files by the worker
// pool.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "backend/worker_pool.hpp"
#include "kernel/epoll.hpp"
#include "kernel/fd.hpp"
#include "ops/table.hpp"
#include "tuning/counter_values.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

class pool_backend final : public backend {
 public:
  static result<std::unique_ptr<pool_backend>> make(const tuning::pool_knobs& settings,
                                                    tuning::counters& counters);
  // From parts made before; use make().
  pool_backend(kernel::epoll made, kernel::wake_fd wake, const tuning::pool_knobs& settings,
               tuning::counters& counters);
  ~pool_backend() override;

  bool start(op& o) override;
  void cancel(op& o) override;
  void wait(std::int64_t timeout_ns, op_list& answered) override;
  bool calls_at_once(const op_request& request) const override {
    const carrier by = carrier_of(request);
    return by == carrier::inline_call || by == carrier::readable || by == carrier::writable;
  }
  void wake() override { wake_fd_.ring(); }
  int poll_fd() override;
  std::size_t polls_max() const override { return std::numeric_limits<std::size_t>::max(); }
  kernel::socket_mode socket_mode() const override { return kernel::socket_mode::non_blocking; }
  std::string_view name() const override { return "pool"; }

 private:
  bool try_or_watch(op& o);
  int arm(int fd);
  void ready(int fd, std::uint32_t events);

  kernel::epoll epoll_;
  kernel::wake_fd wake_fd_;
  std::vector<std::unique_ptr<op_list>> waiting_;  // index: the descriptor its ops wait for
  op_list answered_now_;
  bool is_guest_ = false;  // a foreign loop waits, at any time
  worker_pool workers_;    // last: its threads call wake()
};

}  // namespace sluice
