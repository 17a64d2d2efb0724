// epoll(7) with one-shot registrations, and a wait with nanoseconds.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <span>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {

class epoll {
 public:
  static result<epoll> make();

  // Level-triggered, until the descriptor is closed.
  result<void> watch(int fd);
  // Once for `events`; arming again replaces. A registration that went away with a closed
  // descriptor of the same number is made anew (kernel-notes/epoll_oneshot_rearm.md). EPERM: a
  // regular file, which is always ready.
  int arm_once(int fd, std::uint32_t events);
  // Count of events filled in. Negative timeout: no limit. EINTR counts as none.
  std::size_t wait(std::span<epoll_event> events, std::int64_t timeout_ns);
  [[nodiscard]] int get() const { return fd_.get(); }

 private:
  unique_fd fd_;
};

}  // namespace sluice::kernel
