#include "kernel/fd.hpp"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace sluice::kernel {

void unique_fd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

result<wake_fd> wake_fd::make() {
  wake_fd made;
  made.fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made.fd_) return fail(errno, "eventfd", "engine start");
  return made;
}

void wake_fd::ring() const {
  const std::uint64_t one = 1;
  // EAGAIN means the counter is full, and so the descriptor is readable already.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

void wake_fd::clear() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto bytes =
      ::read(fd_.get(), &count, sizeof count);  // EAGAIN: clear already
}

result<timer_fd> timer_fd::make() {
  timer_fd made;
  made.fd_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!made.fd_) return fail(errno, "timerfd_create", "engine start");
  return made;
}

void timer_fd::arm(std::int64_t deadline_ns) const {
  itimerspec when{};
  when.it_value.tv_sec = deadline_ns / 1'000'000'000;
  when.it_value.tv_nsec = deadline_ns % 1'000'000'000;
  ::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

}  // namespace sluice::kernel
