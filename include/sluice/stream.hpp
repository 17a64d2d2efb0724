// Sockets: a connected stream and a listener. TCP and AF_UNIX stream sockets.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sluice/api.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine;
class engine_core;

enum class recv_mode : std::uint8_t {
  some,  // as soon as anything has arrived
  full,  // the whole buffer, or less only at the end of the stream (MSG_WAITALL, repaired when
         // short)
};

// One connected stream socket. Move-only; the destructor closes. Loop thread; must not outlive its
// engine. At most one recv and one send may be under way at a time. SO_RCVBUF and SO_SNDBUF are
// left to the kernel.
class SLUICE_API stream {
 public:
  stream() = default;
  // Takes over a connected socket and sets the mode its backend needs
  // (kernel-notes/nonblocking_socket_op_waits.md). ENOTSOCK and EOPNOTSUPP when it is no stream
  // socket; the descriptor then still belongs to the caller.
  static result<stream> adopt(engine& on, int fd);
  // Connects to "127.0.0.1:8080" or "[::1]:8080"; names are not resolved. EINVAL when it cannot be
  // parsed, ETIMEDOUT after `timeout` (zero: the kernel's own), else what connect(2) says.
  [[nodiscard]] static task<result<stream>> connect(engine& on, std::string address,
                                                    std::chrono::nanoseconds timeout = {});
  stream(stream&& other) noexcept;
  stream& operator=(stream&& other) noexcept;
  ~stream();

  // Bytes received; 0 is the end of the stream.
  [[nodiscard]] op_await recv(std::span<std::byte> into, recv_mode mode = recv_mode::some,
                              std::chrono::nanoseconds timeout = {});
  // Sends everything, or fails: EPIPE, ECONNRESET, ETIMEDOUT. Never raises SIGPIPE.
  [[nodiscard]] op_await send(std::span<const std::byte> bytes,
                              std::chrono::nanoseconds timeout = {});
  // As send, from several places; advances the iovecs of `message` when the kernel takes a part.
  [[nodiscard]] op_await send(msghdr& message, std::chrono::nanoseconds timeout = {});
  // The poll(2) events once there is something to receive, the end of stream included. Holds no
  // memory.
  [[nodiscard]] op_await wait_readable(std::chrono::nanoseconds timeout = {});
  result<void> shutdown(int how);  // SHUT_RD, SHUT_WR, SHUT_RDWR; never waits
  // Whether shutdown() has sent our end: what a connection looks like at the peer's then tells a
  // reset no more (kernel-notes/closed_tcp_looks_reset.md).
  [[nodiscard]] bool has_sent_end() const { return sent_end_; }
  void close();

  [[nodiscard]] int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  [[nodiscard]] engine_core& core() const { return *core_; }

  // Whether sends without a copy to this peer turned out to be copied, as all on loopback are: then
  // they cost more than plain ones (sluice.send.zero_copy).
  [[nodiscard]] bool copies_zero_copy() const { return copies_zero_copy_; }
  void note_zero_copy_copied() { copies_zero_copy_ = true; }

 private:
  friend class accept_await;
  stream(engine_core& on, int fd) : core_(&on), fd_(fd) {}
  engine_core* core_ = nullptr;
  int fd_ = -1;
  bool copies_zero_copy_ = false;
  bool sent_end_ = false;
};

// Awaits the next connection.
class [[nodiscard]] SLUICE_API accept_await : public op_await {
 public:
  accept_await(engine_core& on, int listener_fd, std::chrono::nanoseconds timeout);
  result<stream> await_resume() const noexcept;

 private:
  engine_core* core_;
};

struct listen_options {
  int backlog = 4096;       // capped by net.core.somaxconn
  bool reuse_port = false;  // several engines accept at one address (SO_REUSEPORT)
};

class SLUICE_API listener {
 public:
  // `address` is "127.0.0.1:8080", "[::1]:8080" or ":8080" (all addresses); port 0 lets the kernel
  // choose. EINVAL when it cannot be parsed, else what bind(2) and listen(2) say. Names are not
  // resolved.
  static result<listener> open(engine& on, std::string_view address,
                               const listen_options& options = {});
  listener(listener&& other) noexcept;
  listener& operator=(listener&& other) noexcept;
  ~listener();

  // Errors: ECANCELED, ETIMEDOUT, EMFILE and ENFILE (pause, then try again), ENOMEM.
  [[nodiscard]] accept_await accept(std::chrono::nanoseconds timeout = {});
  [[nodiscard]] std::string address() const;  // where it listens, the chosen port included
  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] int fd() const { return fd_; }
  void close();

 private:
  listener(engine_core& on, int fd) : core_(&on), fd_(fd) {}
  engine_core* core_ = nullptr;
  int fd_ = -1;
};

}  // namespace sluice
