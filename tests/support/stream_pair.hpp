// Two connected stream sockets, and blocking helpers for the end that plays the peer.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <utility>

namespace support {

// A TCP socket on loopback that listens at a port of the kernel's choice. Blocking.
inline int listen_on_loopback(sockaddr_in& address, int backlog = 16) {
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto* where = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || ::bind(fd, where, bytes) != 0 || ::listen(fd, backlog) != 0 ||
      ::getsockname(fd, where, &bytes) != 0) {
    throw std::runtime_error("a listener on loopback");
  }
  return fd;
}

// Blocking at both ends. Closes what was not taken.
class stream_pair {
 public:
  static stream_pair tcp() {
    sockaddr_in address{};
    const int listening = listen_on_loopback(address);
    const int a = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(a, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("connect to loopback");
    }
    const int b = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    ::close(listening);
    return {a, b};
  }
  static stream_pair local() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      throw std::runtime_error("socketpair");
    }
    return {ends[0], ends[1]};
  }
  stream_pair(stream_pair&& other) noexcept
      : ours_(other.take_ours()), theirs_(other.take_theirs()) {}
  stream_pair& operator=(stream_pair&&) = delete;
  ~stream_pair() {
    close_ours();
    close_theirs();
  }

  [[nodiscard]] int ours() const { return ours_; }      // for the code under test
  [[nodiscard]] int theirs() const { return theirs_; }  // the peer
  int take_ours() { return std::exchange(ours_, -1); }
  int take_theirs() { return std::exchange(theirs_, -1); }
  void close_ours() {
    if (ours_ >= 0) ::close(take_ours());
  }
  void close_theirs() {
    if (theirs_ >= 0) ::close(take_theirs());
  }

 private:
  stream_pair(int ours, int theirs) : ours_(ours), theirs_(theirs) {}
  int ours_;
  int theirs_;
};

// Sends everything; false when the other end is gone.
inline bool send_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

// Receives until `into` is full or the stream ends; the count.
inline std::size_t recv_all(int fd, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = ::recv(fd, into.data() + done, into.size() - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

// Makes close(2) send a reset instead of the end of the stream.
inline void reset_at_close(int fd) {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

}  // namespace support
