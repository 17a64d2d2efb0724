#include "sluice/stream.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <utility>

#include "core/engine_core.hpp"
#include "kernel/socket.hpp"

namespace sluice {
namespace {

op_request on_socket(op_kind kind, int fd, std::uint32_t flags) {
  op_request request;
  request.kind = kind;
  request.fd = fd;
  request.flags = flags;
  return request;
}

}  // namespace

result<stream> stream::adopt(engine& on, int fd) {
  if (const result<void> is = kernel::require_stream_socket(fd); !is)
    return std::unexpected(is.error());
  engine_core& core = on.core();
  if (const result<void> set = kernel::set_mode(fd, core.carrier().socket_mode()); !set) {
    return std::unexpected(set.error());
  }
  kernel::set_no_delay(fd);
  return stream(core, fd);
}

task<result<stream>> stream::connect(engine& on, std::string address,
                                     std::chrono::nanoseconds timeout) {
  engine_core& core = on.core();
  const result<kernel::socket_address> peer = kernel::parse_address(address);
  if (!peer) co_return std::unexpected(peer.error());
  result<kernel::unique_fd> fd = kernel::open_socket(*peer, core.carrier().socket_mode());
  if (!fd) co_return std::unexpected(fd.error());
  op_request request = on_socket(op_kind::connect, fd->get(), 0);
  request.data = const_cast<sockaddr*>(peer->get());
  request.length = peer->bytes;
  op_await connecting(core.loop(), request, timeout);
  const result<std::size_t> connected = co_await connecting;
  if (!connected) co_return std::unexpected(connected.error());
  kernel::set_no_delay(fd->get());
  co_return stream(core, fd->release());
}

stream::stream(stream&& other) noexcept
    : core_(other.core_),
      fd_(std::exchange(other.fd_, -1)),
      copies_zero_copy_(other.copies_zero_copy_),
      sent_end_(other.sent_end_) {}

stream& stream::operator=(stream&& other) noexcept {
  if (this != &other) {
    close();
    core_ = other.core_;
    fd_ = std::exchange(other.fd_, -1);
    copies_zero_copy_ = other.copies_zero_copy_;
    sent_end_ = other.sent_end_;
  }
  return *this;
}

stream::~stream() { close(); }

void stream::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

op_await stream::recv(std::span<std::byte> into, recv_mode mode, std::chrono::nanoseconds timeout) {
  op_request request = on_socket(op_kind::recv, fd_, mode == recv_mode::full ? MSG_WAITALL : 0);
  request.data = into.data();
  request.length = into.size();
  return {core_->loop(), request, timeout};
}

op_await stream::send(std::span<const std::byte> bytes, std::chrono::nanoseconds timeout) {
  op_request request = on_socket(op_kind::send, fd_, MSG_NOSIGNAL | MSG_WAITALL);
  request.data = const_cast<std::byte*>(bytes.data());
  request.length = bytes.size();
  return {core_->loop(), request, timeout};
}

op_await stream::send(msghdr& message, std::chrono::nanoseconds timeout) {
  op_request request = on_socket(op_kind::sendmsg, fd_, MSG_NOSIGNAL | MSG_WAITALL);
  request.data = &message;
  return {core_->loop(), request, timeout};
}

op_await stream::wait_readable(std::chrono::nanoseconds timeout) {
  return {core_->loop(), on_socket(op_kind::poll, fd_, POLLIN | POLLRDHUP), timeout};
}

result<void> stream::shutdown(int how) {
  if (::shutdown(fd_, how) != 0) return fail(errno, "shutdown", "stream");
  if (how != SHUT_RD) sent_end_ = true;
  return {};
}

accept_await::accept_await(engine_core& on, int listener_fd, std::chrono::nanoseconds timeout)
    : op_await(
          on.loop(),
          on_socket(op_kind::accept, listener_fd,
                    SOCK_CLOEXEC | (on.carrier().socket_mode() == kernel::socket_mode::non_blocking
                                        ? SOCK_NONBLOCK
                                        : 0)),
          timeout),
      core_(&on) {}

result<stream> accept_await::await_resume() const noexcept {
  const result<std::size_t> accepted = op_await::await_resume();
  if (!accepted) return std::unexpected(accepted.error());
  const int fd = static_cast<int>(*accepted);
  kernel::set_no_delay(fd);
  return stream(*core_, fd);
}

result<listener> listener::open(engine& on, std::string_view address,
                                const listen_options& options) {
  engine_core& core = on.core();
  result<kernel::unique_fd> fd = kernel::listen_at({.address = address,
                                                    .backlog = options.backlog,
                                                    .reuse_port = options.reuse_port,
                                                    .mode = core.carrier().socket_mode()});
  if (!fd) return std::unexpected(fd.error());
  return listener(core, fd->release());
}

listener::listener(listener&& other) noexcept
    : core_(other.core_), fd_(std::exchange(other.fd_, -1)) {}

listener& listener::operator=(listener&& other) noexcept {
  if (this != &other) {
    close();
    core_ = other.core_;
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

listener::~listener() { close(); }

void listener::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

accept_await listener::accept(std::chrono::nanoseconds timeout) { return {*core_, fd_, timeout}; }

std::string listener::address() const { return kernel::local_address(fd_); }

std::uint16_t listener::port() const { return kernel::local_port(fd_); }

}  // namespace sluice
