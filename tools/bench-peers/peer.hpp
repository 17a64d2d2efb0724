// What the peers of sluice-bench share: options, listening, threads, the wire.
//
//   PEER --listen ADDR:PORT --dir DIR --mode receive|durable|send|relay [--target ADDR:PORT]
//        [--sync] [--block N] [--depth N]
//
// prints `listening on ADDR:PORT`, serves until SIGTERM, then exits with 0. An option it does not
// know and a mode it cannot do are one line on stderr and 2. What this machine has not got is
// `cannot: WHY`, and 1.
//
// Wire, modes receive and durable: a connection carries objects one after the other, each 8 bytes
// of little-endian length and that many bytes of payload; the peer answers each with 'k' once the
// file is written (--sync: and durable), or with 'e' and the end of the connection.
// Wire, mode send: the client sends 8 bytes of little-endian length L; the peer answers with the
// first L bytes of DIR/source. Mode relay: whatever comes goes to a connection to --target, and
// back.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace peer {

constexpr std::size_t head_bytes = 8;

struct settings {
  std::string program;
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;
  std::string target_address;
  std::uint16_t target_port = 0;
  std::string dir;
  std::string mode;
  bool sync = false;
  std::size_t block_bytes = 256 * 1024;
};

// A file descriptor that closes itself.
class owned_fd {
 public:
  owned_fd() = default;
  explicit owned_fd(int fd) : fd_(fd) {}
  owned_fd(owned_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  owned_fd& operator=(owned_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~owned_fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

[[noreturn]] inline void refuse(const settings& options, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", options.program.c_str(), why.c_str());
  std::exit(2);
}

// What it was asked for is not to be had on this machine: said in place of where it listens.
[[noreturn]] inline void refuse_to_start(const settings& options, const std::string& why) {
  std::printf("cannot: %s\n", why.c_str());
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", options.program.c_str(), why.c_str());
  std::exit(1);
}

[[noreturn]] inline void fail(const settings& options, const char* what) {
  std::fprintf(stderr, "%s: %s: %s\n", options.program.c_str(), what, std::strerror(errno));
  std::exit(1);
}

inline std::uint64_t parse_number(const settings& options, std::string_view text,
                                  std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number > most)
    refuse(options, "not a number in range: " + std::string(text));
  return number;
}

inline void parse_place(const settings& options, std::string_view text, std::string& address,
                        std::uint16_t& port) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) refuse(options, "not ADDR:PORT: " + std::string(text));
  address = text.substr(0, colon);
  port = static_cast<std::uint16_t>(parse_number(options, text.substr(colon + 1), 65535));
}

inline settings parse(int argc, char** argv, std::initializer_list<std::string_view> modes,
                      std::size_t block_bytes = 256 * 1024) {
  settings options;
  options.program = ::basename(argv[0]);
  options.block_bytes = block_bytes;
  for (int at = 1; at < argc; ++at) {
    const std::string_view name = argv[at];
    if (name == "--sync") {
      options.sync = true;
      continue;
    }
    if (name != "--listen" && name != "--dir" && name != "--mode" && name != "--block" &&
        name != "--depth" && name != "--target")
      refuse(options, "unknown option " + std::string(name));
    if (++at == argc) refuse(options, std::string(name) + " wants a value");
    const std::string_view value = argv[at];
    if (name == "--listen") parse_place(options, value, options.address, options.port);
    if (name == "--target") {
      parse_place(options, value, options.target_address, options.target_port);
    }
    if (name == "--dir") options.dir = value;
    if (name == "--mode") options.mode = value;
    if (name == "--block") options.block_bytes = parse_number(options, value, 1 << 30);
    // Taken so that every peer can be started alike; each of these has one block in flight.
    if (name == "--depth") parse_number(options, value, 1 << 16);
  }
  if (options.dir.empty()) refuse(options, "--dir is missing");
  if (options.block_bytes == 0) refuse(options, "--block is 0");
  if (std::find(modes.begin(), modes.end(), options.mode) == modes.end())
    refuse(options, "cannot do --mode '" + options.mode + "'");
  return options;
}

inline owned_fd open_dir(const settings& options) {
  owned_fd dir(::open(options.dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) fail(options, options.dir.c_str());
  return dir;
}

// One descriptor for each of thousands of connections needs more than the usual soft limit.
inline void raise_fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// SIGTERM as something to poll. Before any thread is started, so that all have it blocked.
inline owned_fd stop_signal(const settings& options) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (::pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) fail(options, "pthread_sigmask");
  owned_fd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd) fail(options, "signalfd");
  return fd;
}

// A listening, non-blocking socket, said on stdout.
inline owned_fd listen(const settings& options) {
  raise_fd_limit();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options.port);
  if (::inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1)
    refuse(options, "not an IPv4 address: " + options.address);
  owned_fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int yes = 1;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t bytes = sizeof address;
  if (!listener || ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(listener.get(), generic, bytes) != 0 || ::listen(listener.get(), 4096) != 0 ||
      ::getsockname(listener.get(), generic, &bytes) != 0)
    fail(options, "listen");
  std::printf("listening on %s:%d\n", options.address.c_str(), ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

// The next connection, or none when nobody waits. Out of descriptors is the end of the run: a
// peer that serves fewer connections than it was given would flatter itself.
inline owned_fd accept(const settings& options, const owned_fd& listener, int flags) {
  owned_fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | flags));
  if (!socket) {
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) fail(options, "accept");
    return socket;
  }
  const int yes = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return socket;
}

inline std::uint64_t decode_length(const unsigned char* head) {
  std::uint64_t length = 0;
  for (std::size_t at = head_bytes; at-- > 0;) length = length << 8 | head[at];
  return length;
}

inline bool send_all(int socket, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, at, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
  return true;
}

// One byte always fits: the client has taken the answer before, or this one is the first.
inline bool answer(int socket, char status) { return send_all(socket, &status, 1); }

// For blocking sockets. Loops, because MSG_WAITALL may come back short; false at the end of the
// stream too.
inline bool receive_exactly(int socket, void* into, std::size_t bytes) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = ::recv(socket, at, bytes, MSG_WAITALL);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

inline bool write_all(int file, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t written = ::write(file, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

// A thread for each connection: handle(socket, number of the connection) in each, until SIGTERM.
template <typename Handle>
int serve_with_threads(const settings& options, Handle handle) {
  const owned_fd stop = stop_signal(options);
  // 8 MiB of address space for each of thousands of threads can fail where overcommit is off.
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, 128 * 1024);
  ::pthread_setattr_default_np(&attributes);
  const owned_fd listener = peer::listen(options);
  for (std::uint64_t connections = 0;;) {
    pollfd waits[] = {{listener.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) fail(options, "poll");
    // The other threads end with the process: what they have not acknowledged is nobody's.
    if (waits[1].revents != 0) std::_Exit(0);
    owned_fd socket = peer::accept(options, listener, 0);
    if (!socket) continue;
    try {
      std::thread([handle, number = connections++, socket = std::move(socket)]() mutable {
        handle(socket.get(), number);
      }).detach();
    } catch (const std::system_error& error) {
      std::fprintf(stderr, "%s: thread %llu: %s\n", options.program.c_str(),
                   static_cast<unsigned long long>(connections), error.what());
      std::_Exit(1);
    }
  }
}

}  // namespace peer
