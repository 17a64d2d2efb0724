// Sockets: making a listener, and the mode a backend needs.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {

// How sockets of one engine are opened: the ring wants them blocking, epoll non-blocking
// (kernel-notes/nonblocking_socket_op_waits.md).
enum class socket_mode : std::uint8_t { blocking, non_blocking };

result<void> set_mode(int fd, socket_mode mode);
// ENOTSOCK, or EOPNOTSUPP for a socket that is no stream.
result<void> require_stream_socket(int fd);
// Responses leave when they are written; Nagle's algorithm would hold the last part back. No error
// for AF_UNIX.
void set_no_delay(int fd);

// At the end of a stream: whether a reset ended it, and not the peer's FIN. io_uring takes the
// error away when a receive with MSG_WAITALL had moved bytes before; the connection's state still
// tells. False for AF_UNIX.
[[nodiscard]] bool was_reset(int fd);

// Whether the next byte is urgent data (MSG_OOB), which a receive skips and a splice from the
// socket never passes (kernel-notes/splice_stops_at_urgent_data.md). False where it cannot be
// asked.
[[nodiscard]] bool at_urgent_mark(int fd);

// What was sent and the peer has not acknowledged, or not taken from an AF_UNIX socket. 0 when it
// cannot be asked.
[[nodiscard]] std::size_t unacknowledged_bytes(int fd);

// Whether both ends of a TCP connection have the same address: the peer is on this machine, where
// whatever is sent without a copy is copied after all. False when it cannot be asked.
[[nodiscard]] bool peer_is_here(int fd);

// Ends a connection so that the kernel drops at once what it had still to send, and lets go of the
// memory; the peer sees a reset. shutdown(2) and close(2) go on sending
// (kernel-notes/zero_copy_send_answers_twice.md). The descriptor stays open.
void reset_connection(int fd);

// Where to connect or listen, parsed: "127.0.0.1:80", "[::1]:80", ":80" (all addresses, for
// listening). EINVAL when it is none of these; names are not resolved.
struct socket_address {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};
result<socket_address> parse_address(std::string_view text);
// An unconnected TCP socket for that address.
result<unique_fd> open_socket(const socket_address& address, socket_mode mode);

struct listen_request {
  std::string_view address;  // "127.0.0.1:80", "[::1]:80", ":80"
  int backlog = 4096;
  bool reuse_port = false;
  socket_mode mode = socket_mode::blocking;
};
result<unique_fd> listen_at(const listen_request& request);
// "127.0.0.1:8080", empty when the socket has no address.
[[nodiscard]] std::string local_address(int fd);
[[nodiscard]] std::uint16_t local_port(int fd);

}  // namespace sluice::kernel
