// The client of small_messages: requests over connections that are mostly silent.
#pragma once

#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <random>
#include <vector>

#include "peer.hpp"

namespace peer {

constexpr std::size_t message_bytes = 17;
using sockets = std::vector<owned_fd>;
using message = std::array<char, message_bytes>;

[[noreturn]] inline void fail_here(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

inline double seconds_of(clockid_t clock) {
  timespec now{};
  if (::clock_gettime(clock, &now) != 0) fail_here("clock_gettime");
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

inline void pin_to(std::size_t processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

inline void connect_all(std::size_t count, sockets& ours, sockets& theirs) {
  const owned_fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t bytes = sizeof address;
  if (::bind(listener.get(), generic, bytes) != 0 || ::listen(listener.get(), 16) != 0 ||
      ::getsockname(listener.get(), generic, &bytes) != 0)
    fail_here("listen");
  const int yes = 1;
  for (std::size_t i = 0; i < count; ++i) {
    ours.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(ours.back().get(), generic, bytes) != 0) fail_here("connect");
    theirs.emplace_back(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!theirs.back()) fail_here("accept");
    ::setsockopt(ours.back().get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ::setsockopt(theirs.back().get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
}

// Sends the next request on some connection that waits for no answer.
class client {
 public:
  explicit client(const sockets& to) : to_(to), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      epoll_event wanted{};
      wanted.events = EPOLLIN;
      wanted.data.u64 = i;
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, to[i].get(), &wanted);
      silent_.push_back(i);
    }
  }
  void speak() {
    const std::size_t which = random_() % silent_.size();
    std::swap(silent_[which], silent_.back());
    const message text{};
    if (::send(to_[silent_.back()].get(), text.data(), text.size(), MSG_NOSIGNAL) < 0)
      fail_here("send");
    silent_.pop_back();
  }
  std::size_t listen() {
    std::array<epoll_event, 256> found;
    int count = 0;
    do {  // EINTR without a signal: the end of a ring that this process had may do that
      count = ::epoll_wait(epoll_.get(), found.data(), found.size(), 10'000);
    } while (count < 0 && errno == EINTR);
    if (count <= 0) fail_here("the server answers no more");
    message text;
    for (int i = 0; i < count; ++i) {
      const std::size_t which = found[static_cast<std::size_t>(i)].data.u64;
      if (::recv(to_[which].get(), text.data(), text.size(), 0) != message_bytes) fail_here("recv");
      silent_.push_back(which);
    }
    return static_cast<std::size_t>(count);
  }

 private:
  const sockets& to_;
  const owned_fd epoll_;
  std::vector<std::size_t> silent_;
  std::minstd_rand random_;
};

}  // namespace peer
