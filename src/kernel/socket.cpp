#include "kernel/socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <charconv>
#include <cstring>

namespace sluice::kernel {
namespace {

result<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (problem != std::errc{} || end != text.data() + text.size())
    return fail(EINVAL, "address", "not a port number");
  return port;
}

void set_option(int fd, int level, int name, int value) {
  // Conveniences all: a kernel that refuses one serves as well without it.
  [[maybe_unused]] const int ignored = ::setsockopt(fd, level, name, &value, sizeof value);
}

}  // namespace

// connect(2): AF_UNSPEC dissolves the association, for TCP by a reset.
void reset_connection(int fd) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  if (::connect(fd, &nobody, sizeof nobody) == 0) return;
  // Refused, by a filter perhaps: the kernel gives up by itself what is not acknowledged at once.
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1);
  ::shutdown(fd, SHUT_RDWR);
}

result<socket_address> parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(EINVAL, "address", "without a port");
  const result<std::uint16_t> port = parse_port(text.substr(colon + 1));
  if (!port) return std::unexpected(port.error());
  std::string host(text.substr(0, colon));
  if (host.contains('\0')) return fail(EINVAL, "address", "a NUL in it");
  socket_address parsed;
  if (host.empty()) host = "[::]";
  if (host.starts_with('[') && host.ends_with(']')) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&parsed.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(*port);
    host = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1) {
      return fail(EINVAL, "address", "not an IPv6 address");
    }
    parsed.bytes = sizeof *v6;
    return parsed;
  }
  auto* v4 = reinterpret_cast<sockaddr_in*>(&parsed.storage);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(*port);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) {
    return fail(EINVAL, "address", "not an IP address");
  }
  parsed.bytes = sizeof *v4;
  return parsed;
}

result<unique_fd> open_socket(const socket_address& address, socket_mode mode) {
  const int flags = mode == socket_mode::non_blocking ? SOCK_NONBLOCK : 0;
  unique_fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return fail(errno, "socket");
  return fd;
}

result<void> set_mode(int fd, socket_mode mode) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail(errno, "fcntl", "socket mode");
  const int wanted = mode == socket_mode::non_blocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && ::fcntl(fd, F_SETFL, wanted) != 0)
    return fail(errno, "fcntl", "socket mode");
  return {};
}

result<void> require_stream_socket(int fd) {
  int type = 0;
  socklen_t bytes = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0)
    return fail(errno, "getsockopt", "stream");
  if (type != SOCK_STREAM) return fail(EOPNOTSUPP, "getsockopt", "stream: not SOCK_STREAM");
  return {};
}

bool was_reset(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return false;
  return info.tcpi_state == TCP_CLOSE;
}

bool at_urgent_mark(int fd) { return ::sockatmark(fd) == 1; }

std::size_t unacknowledged_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
}

void set_no_delay(int fd) { set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

result<unique_fd> listen_at(const listen_request& request) {
  result<socket_address> address = parse_address(request.address);
  if (!address) return std::unexpected(address.error());
  result<unique_fd> fd = open_socket(*address, request.mode);
  if (!fd && fd.error().code == EAFNOSUPPORT && request.address.starts_with(':')) {
    // All addresses of a machine without IPv6.
    address = parse_address("0.0.0.0" + std::string(request.address));
    fd = open_socket(*address, request.mode);
  }
  if (!fd) return fd;
  set_option(fd->get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address->storage.ss_family == AF_INET6) set_option(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (request.reuse_port) set_option(fd->get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (::bind(fd->get(), address->get(), address->bytes) != 0) return fail(errno, "bind", "listen");
  if (::listen(fd->get(), request.backlog) != 0) return fail(errno, "listen", "listen");
  return fd;
}

static bool name_of(int fd, sockaddr_storage& storage) {
  socklen_t bytes = sizeof storage;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) == 0;
}

bool peer_is_here(int fd) {
  sockaddr_storage ours{};
  sockaddr_storage theirs{};
  socklen_t bytes = sizeof theirs;
  if (!name_of(fd, ours) || ::getpeername(fd, reinterpret_cast<sockaddr*>(&theirs), &bytes) != 0)
    return false;
  if (ours.ss_family != theirs.ss_family) return false;
  if (ours.ss_family == AF_INET6) {
    return std::memcmp(&reinterpret_cast<const sockaddr_in6&>(ours).sin6_addr,
                       &reinterpret_cast<const sockaddr_in6&>(theirs).sin6_addr,
                       sizeof(in6_addr)) == 0;
  }
  return ours.ss_family == AF_INET &&
         reinterpret_cast<const sockaddr_in&>(ours).sin_addr.s_addr ==
             reinterpret_cast<const sockaddr_in&>(theirs).sin_addr.s_addr;
}

std::uint16_t local_port(int fd) {
  sockaddr_storage storage{};
  if (!name_of(fd, storage)) return 0;
  if (storage.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
  if (storage.ss_family == AF_INET)
    return ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  return 0;
}

std::string local_address(int fd) {
  sockaddr_storage storage{};
  if (!name_of(fd, storage)) return {};
  char text[INET6_ADDRSTRLEN] = {};
  const std::string port = std::to_string(local_port(fd));
  if (storage.ss_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + port;
  }
  if (storage.ss_family != AF_INET) return {};
  ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(&storage)->sin_addr, text, sizeof text);
  return std::string(text) + ":" + port;
}

}  // namespace sluice::kernel
