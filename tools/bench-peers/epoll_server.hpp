// One thread, one epoll, non-blocking sockets: the shape of nginx, HAProxy and most event loops.
//
// Fair settings: level-triggered, so that a connection waits for readiness and is not tried in
// vain; each event lets a connection go on for a bounded number of calls, so that a fast one does
// not starve the others.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "peer.hpp"

namespace peer {

enum class waits_for { input, output, nothing };  // nothing: the connection is over

// make(socket, number) gives a std::unique_ptr to something with `waits_for on_ready()`.
template <typename Make>
int serve_with_epoll(const settings& options, Make make) {
  const owned_fd stop = stop_signal(options);
  const owned_fd listener = peer::listen(options);
  const owned_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) fail(options, "epoll_create1");
  const auto control = [&](int operation, int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll.get(), operation, fd, &event) != 0) fail(options, "epoll_ctl");
  };
  control(EPOLL_CTL_ADD, stop.get(), EPOLLIN);
  control(EPOLL_CTL_ADD, listener.get(), EPOLLIN);

  struct served {
    owned_fd socket;
    waits_for waiting = waits_for::input;
    decltype(make(0, std::uint64_t{})) connection;
  };
  std::vector<served> by_fd;
  std::uint64_t connections = 0;
  const auto accept_all = [&] {
    while (owned_fd socket = peer::accept(options, listener, SOCK_NONBLOCK)) {
      const int fd = socket.get();
      if (by_fd.size() <= static_cast<std::size_t>(fd))
        by_fd.resize(static_cast<std::size_t>(fd) + 1);
      control(EPOLL_CTL_ADD, fd, EPOLLIN);
      by_fd[static_cast<std::size_t>(fd)] =
          served{std::move(socket), waits_for::input, make(fd, connections++)};
    }
  };

  std::array<epoll_event, 512> events;
  while (true) {
    const int ready = ::epoll_wait(epoll.get(), events.data(), events.size(), -1);
    if (ready < 0 && errno != EINTR) fail(options, "epoll_wait");
    for (int at = 0; at < ready; ++at) {
      const int fd = events[static_cast<std::size_t>(at)].data.fd;
      if (fd == stop.get()) return 0;
      if (fd == listener.get()) {
        accept_all();
        continue;
      }
      served& one = by_fd[static_cast<std::size_t>(fd)];
      const waits_for next = one.connection->on_ready();
      if (next == waits_for::nothing) {
        one.connection.reset();
        one.socket = owned_fd();  // closing takes it out of the epoll as well
      } else if (next != one.waiting) {
        control(EPOLL_CTL_MOD, fd, next == waits_for::input ? EPOLLIN : EPOLLOUT);
        one.waiting = next;
      }
    }
  }
}

}  // namespace peer
