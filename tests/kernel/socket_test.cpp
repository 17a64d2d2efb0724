#include "kernel/socket.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;
using namespace std::string_view_literals;
using support::stream_pair;

std::string shown(const socket_address& a) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (a.storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(a.storage);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return std::string(text.data()) + " " + std::to_string(ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(a.storage);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return std::string(text.data()) + " " + std::to_string(ntohs(v6.sin6_port));
}

TEST_CASE("an address is an IPv4 or a bracketed IPv6 address and a port") {
  struct row {
    std::string_view text;
    std::string_view meaning;
  };
  constexpr std::array rows{
      row{"127.0.0.1:80", "127.0.0.1 80"},
      row{"0.0.0.0:65535", "0.0.0.0 65535"},
      row{"[::1]:8080", "::1 8080"},
      row{"[2001:db8::2]:0", "2001:db8::2 0"},
      row{":443", ":: 443"},
      row{"[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1 1"},
  };
  for (const row& r : rows) {
    CAPTURE(r.text);
    const auto parsed = parse_address(r.text);
    REQUIRE(parsed.has_value());
    CHECK(shown(*parsed) == r.meaning);
    CHECK(parsed->bytes ==
          (parsed->storage.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)));
  }
}

TEST_CASE("what is no address is EINVAL") {
  for (const std::string_view text : {""sv,
                                      ":"sv,
                                      "80"sv,
                                      "127.0.0.1"sv,
                                      "127.0.0.1:"sv,
                                      "127.0.0.1:x"sv,
                                      "127.0.0.1:80x"sv,
                                      "127.0.0.1: 80"sv,
                                      "127.0.0.1:-1"sv,
                                      "127.0.0.1:+80"sv,
                                      "127.0.0.1:65536"sv,
                                      "127.0.0.1:99999999999999999999"sv,
                                      "127.0.0:80"sv,
                                      "127.0.0.256:80"sv,
                                      "localhost:80"sv,
                                      "::1:80"sv,
                                      "[::1:80"sv,
                                      "::1]:80"sv,
                                      "[::1]"sv,
                                      "[::1]80"sv,
                                      "[]:80"sv,
                                      "[::g]:80"sv,
                                      "[127.0.0.1]:80"sv,
                                      "*:80"sv,
                                      " 127.0.0.1:80"sv,
                                      "127.0.0.1 :80"sv,
                                      "127.0.0.1\0x:80"sv,
                                      "[::1\0x]:80"sv,
                                      "127.0.0.1:80\0"sv}) {
    CAPTURE(text);
    const auto parsed = parse_address(text);
    CHECK_FALSE(parsed.has_value());
    if (!parsed) CHECK(parsed.error().code == EINVAL);
    CHECK_FALSE(listen_at({.address = text}).has_value());
  }
}

TEST_CASE("port 0 lets the kernel choose, and the choice is shown") {
  const auto fd = listen_at({.address = "127.0.0.1:0"});
  REQUIRE(fd.has_value());
  const std::uint16_t port = local_port(fd->get());
  CHECK(port != 0);
  CHECK(local_address(fd->get()) == "127.0.0.1:" + std::to_string(port));
  const auto taken = listen_at({.address = local_address(fd->get())});
  REQUIRE_FALSE(taken.has_value());
  CHECK(taken.error().code == EADDRINUSE);
}

TEST_CASE("a listener on all addresses takes IPv4 and shows itself in brackets") {
  const auto fd = listen_at({.address = ":0"});
  REQUIRE(fd.has_value());
  const std::uint16_t port = local_port(fd->get());
  const auto to = parse_address("127.0.0.1:" + std::to_string(port));
  const auto client = open_socket(*to, socket_mode::blocking);
  REQUIRE(client.has_value());
  CHECK(::connect(client->get(), to->get(), to->bytes) == 0);
  const std::string shown_address = local_address(fd->get());
  const bool known = shown_address == "[::]:" + std::to_string(port) ||
                     shown_address == "0.0.0.0:" + std::to_string(port);
  CHECK(known);
}

TEST_CASE("a listener at an IPv6 address") {
  const auto fd = listen_at({.address = "[::1]:0"});
  if (!fd) {
    MESSAGE("no IPv6 here: ", describe(fd.error()));
    return;
  }
  CHECK(local_address(fd->get()) == "[::1]:" + std::to_string(local_port(fd->get())));
}

TEST_CASE("two listeners share an address only when both ask for it") {
  const auto first = listen_at({.address = "127.0.0.1:0", .reuse_port = true});
  REQUIRE(first.has_value());
  const std::string address = local_address(first->get());
  CHECK_FALSE(listen_at({.address = address}).has_value());
  CHECK(listen_at({.address = address, .reuse_port = true}).has_value());
}

TEST_CASE("an address that is not of this machine cannot be listened at") {
  const auto fd = listen_at({.address = "192.0.2.1:0"});
  REQUIRE_FALSE(fd.has_value());
  CHECK(fd.error().code == EADDRNOTAVAIL);
  CHECK(std::string_view(fd.error().op) == "bind");
}

TEST_CASE("a socket is opened in the mode asked for and is not inherited") {
  const auto to = parse_address("127.0.0.1:1");
  for (const socket_mode mode : {socket_mode::blocking, socket_mode::non_blocking}) {
    const auto fd = open_socket(*to, mode);
    REQUIRE(fd.has_value());
    const bool non_blocking = (::fcntl(fd->get(), F_GETFL) & O_NONBLOCK) != 0;
    CHECK(non_blocking == (mode == socket_mode::non_blocking));
    CHECK((::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
}

TEST_CASE("the mode of a socket is set both ways") {
  const stream_pair pair = stream_pair::local();
  REQUIRE(set_mode(pair.ours(), socket_mode::non_blocking).has_value());
  CHECK((::fcntl(pair.ours(), F_GETFL) & O_NONBLOCK) != 0);
  REQUIRE(set_mode(pair.ours(), socket_mode::blocking).has_value());
  CHECK((::fcntl(pair.ours(), F_GETFL) & O_NONBLOCK) == 0);
  CHECK(set_mode(-1, socket_mode::blocking).error().code == EBADF);
}

TEST_CASE("only stream sockets are stream sockets") {
  const stream_pair tcp = stream_pair::tcp();
  const stream_pair local = stream_pair::local();
  CHECK(require_stream_socket(tcp.ours()).has_value());
  CHECK(require_stream_socket(local.ours()).has_value());
  const unique_fd datagram(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  CHECK(require_stream_socket(datagram.get()).error().code == EOPNOTSUPP);
  const support::temp_dir dir;
  CHECK(require_stream_socket(dir.fd()).error().code == ENOTSOCK);
  CHECK(require_stream_socket(-1).error().code == EBADF);
}

TEST_CASE("Nagle's algorithm is switched off where there is one") {
  const stream_pair tcp = stream_pair::tcp();
  set_no_delay(tcp.ours());
  int value = 0;
  socklen_t bytes = sizeof value;
  ::getsockopt(tcp.ours(), IPPROTO_TCP, TCP_NODELAY, &value, &bytes);
  CHECK(value != 0);
  const stream_pair local = stream_pair::local();
  set_no_delay(local.ours());  // no error, no effect
}

TEST_CASE("a reset is told from the end of the stream") {
  const auto ended_by = [](bool reset) {
    stream_pair pair = stream_pair::tcp();
    std::byte byte{};
    if (reset) support::reset_at_close(pair.theirs());
    pair.close_theirs();
    [[maybe_unused]] const auto got = ::recv(pair.ours(), &byte, 1, 0);
    return was_reset(pair.ours());
  };
  CHECK(ended_by(true));
  CHECK_FALSE(ended_by(false));
  const stream_pair local = stream_pair::local();
  CHECK_FALSE(was_reset(local.ours()));
}

TEST_CASE("a peer is here when its address is ours, and not when it cannot be asked") {
  const stream_pair near = stream_pair::tcp();
  CHECK(peer_is_here(near.ours()));
  CHECK(peer_is_here(near.theirs()));
  CHECK_FALSE(peer_is_here(stream_pair::local().ours()));
  CHECK_FALSE(peer_is_here(-1));
  sockaddr_in address{};
  const int listening = support::listen_on_loopback(address);
  CHECK_FALSE(peer_is_here(listening));
  const int afar = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
  REQUIRE(::bind(afar, reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0);
  REQUIRE(::connect(afar, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK_FALSE(peer_is_here(afar));
  ::close(afar);
  ::close(listening);
}

TEST_CASE("what is no TCP socket has neither port nor address") {
  const stream_pair local = stream_pair::local();
  CHECK(local_port(local.ours()) == 0);
  CHECK(local_address(local.ours()).empty());
  CHECK(local_address(-1).empty());
}

}  // namespace
