#include "kernel/epoll.hpp"

#include <algorithm>
#include <climits>

namespace sluice::kernel {

result<epoll> epoll::make() {
  epoll made;
  made.fd_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!made.fd_) return fail(errno, "epoll_create1", "engine start");
  return made;
}

result<void> epoll::watch(int fd) {
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  wanted.data.fd = fd;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &wanted) != 0) return fail(errno, "epoll_ctl");
  return {};
}

int epoll::arm_once(int fd, std::uint32_t events) {
  epoll_event wanted{};
  wanted.events = events | EPOLLONESHOT;
  wanted.data.fd = fd;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &wanted) == 0) return 0;
  if (errno != ENOENT) return errno;
  return ::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &wanted) == 0 ? 0 : errno;
}

std::size_t epoll::wait(std::span<epoll_event> events, std::int64_t timeout_ns) {
  const int room = static_cast<int>(events.size());
  timespec limit{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  int count =
      ::epoll_pwait2(fd_.get(), events.data(), room, timeout_ns < 0 ? nullptr : &limit, nullptr);
  if (count < 0 &&
      errno != EINTR) {  // ENOSYS before Linux 5.11, EPERM under an old seccomp profile
    const std::int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999'999) / 1'000'000;
    count = ::epoll_wait(fd_.get(), events.data(), room,
                         static_cast<int>(std::min<std::int64_t>(ms, INT_MAX)));
  }
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

}  // namespace sluice::kernel
