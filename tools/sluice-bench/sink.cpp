// The network alone. Mode receive: one recv after the other into one hot buffer. Mode send: one
// send after the other out of it. Nothing else happens, so no server can do it for less.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "serve.hpp"

namespace bench {

namespace {

constexpr std::size_t buffer_bytes = std::size_t{256} << 10;
constexpr std::size_t head_bytes = 8;

struct connection {
  std::array<unsigned char, head_bytes> head{};
  std::size_t head_at = 0;
  std::uint64_t left = 0;  // of the payload
};

std::uint64_t length_in(const std::array<unsigned char, head_bytes>& head) {
  std::uint64_t length = 0;
  for (std::size_t i = head.size(); i > 0; --i) length = length << 8 | head[i - 1];
  return length;
}

class sink {
 public:
  explicit sink(bool sending) : sending_(sending), buffer_(buffer_bytes) {}
  int run();

 private:
  bool listen();
  void accept_all();
  bool progress(int fd, connection& c);
  bool read_head(int fd, connection& c, bool& again);
  bool move_payload(int fd, connection& c, bool& again);
  void drop(int fd);

  bool sending_;
  std::vector<char> buffer_;
  int listener_ = -1;
  int epoll_fd_ = -1;
  std::unordered_map<int, connection> connections_;
};

bool sink::listen() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener_;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      ::listen(listener_, 4096) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, listener_, &event) != 0) {
    return false;
  }
  fmt::print("listening on 127.0.0.1:{}\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return true;
}

void sink::accept_all() {
  int fd = -1;
  while ((fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections_[fd];
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET | (sending_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
    event.data.fd = fd;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) drop(fd);
  }
}

void sink::drop(int fd) {
  connections_.erase(fd);
  ::close(fd);
}

// False: the connection is over. `again`: nothing more to be had now.
bool sink::read_head(int fd, connection& c, bool& again) {
  const ssize_t got = ::recv(fd, c.head.data() + c.head_at, head_bytes - c.head_at, 0);
  again = got < 0 && (errno == EAGAIN || errno == EINTR);
  if (again) return true;
  if (got <= 0) return false;
  c.head_at += static_cast<std::size_t>(got);
  if (c.head_at == head_bytes) c.left = length_in(c.head);
  return true;
}

bool sink::move_payload(int fd, connection& c, bool& again) {
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(c.left, buffer_bytes));
  const ssize_t moved = sending_ ? ::send(fd, buffer_.data(), wanted, MSG_NOSIGNAL)
                                 : ::recv(fd, buffer_.data(), wanted, 0);
  again = moved < 0 && (errno == EAGAIN || errno == EINTR);
  if (again) return true;
  if (moved <= 0) return false;
  c.left -= static_cast<std::uint64_t>(moved);
  return true;
}

bool sink::progress(int fd, connection& c) {
  for (bool again = false; !again;) {
    const bool in_head = c.head_at < head_bytes;
    if (!(in_head ? read_head(fd, c, again) : move_payload(fd, c, again))) return false;
    if (again || c.head_at < head_bytes || c.left > 0) continue;
    c.head_at = 0;
    if (!sending_ && ::send(fd, "k", 1, MSG_NOSIGNAL) != 1) return false;
  }
  return true;
}

int sink::run() {
  if (!listen()) {
    fmt::print(stderr, "sink: {}\n", std::strerror(errno));
    return 1;
  }
  std::array<epoll_event, 256> events;
  while (true) {
    const int ready = ::epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), -1);
    if (ready < 0 && errno != EINTR) return 1;
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener_) {
        accept_all();
        continue;
      }
      const auto found = connections_.find(fd);
      if (found != connections_.end() && !progress(fd, found->second)) drop(fd);
    }
  }
}

}  // namespace

int sink_main(int argc, char** argv) {
  const std::string_view mode = argc > 2 && std::string_view(argv[1]) == "--mode" ? argv[2] : "";
  if (mode != "receive" && mode != "send") {
    fmt::print(stderr, "usage: sluice-bench sink --mode receive|send\n");
    return 2;
  }
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return sink(mode == "send").run();
}

}  // namespace bench
