// The case relay: a client behind each relay and the target before it, both in this process. Every
// connection carries its bytes one way to their end, and then nothing back to its end: half-closed
// in between, as a proxy's connections are.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "measure.hpp"
#include "place.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::size_t buffer_bytes = 256 << 10;
constexpr timeval patience{.tv_sec = 60, .tv_usec = 0};

const std::vector<way> relay_ways = {
    {.name = "sluice auto", .peer = "serve", .kept = storage::none, .durable = false},
    {.name = "sluice splice",
     .peer = "serve",
     .kept = storage::none,
     .durable = false,
     .settings = {"sluice.relay.path=splice"}},
    {.name = "sluice copy",
     .peer = "serve",
     .kept = storage::none,
     .durable = false,
     .settings = {"sluice.relay.path=copy"}},
    {.name = "sluice splice, pool",
     .peer = "serve",
     .kept = storage::none,
     .durable = false,
     .settings = {"sluice.relay.path=splice", "sluice.backend=pool"}},
    {.name = "splice in a loop", .peer = "relay_splice", .kept = storage::none, .durable = false},
    {.name = "HAProxy, splice-auto", .peer = "haproxy", .kept = storage::none, .durable = false},
    {.name = "socat, a process each",
     .peer = "socat",
     .kept = storage::none,
     .durable = false,
     .quick = false,
     .forks = true},
};

class descriptor {
 public:
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&&) = delete;
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// What all connections of one run have in common.
struct work {
  const pattern* payload = nullptr;
  std::uint64_t bytes = 0;  // of each connection
  unsigned connections = 1;
  bool verify = false;
};

// The far end: accepts on a port of the kernel's choice for as long as the case lasts.
class target {
 public:
  target() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t bytes = sizeof address;
    auto* where = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), where, bytes) == 0 && ::listen(listener_.get(), 4096) == 0 &&
        ::getsockname(listener_.get(), where, &bytes) == 0) {
      port_ = ntohs(address.sin_port);
    }
    ::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }

  // Takes `of.connections` whole connections; one without a byte (somebody tried the port) is none.
  [[nodiscard]] bool take(const work& of) const {
    std::atomic<bool> whole{true};
    std::vector<std::thread> takers;
    while (takers.size() < of.connections) {
      descriptor peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (peer.get() < 0) {
        whole = false;
        break;
      }
      ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      std::uint64_t id = 0;
      if (::recv(peer.get(), &id, sizeof id, MSG_WAITALL) != sizeof id) continue;
      takers.emplace_back([&of, &whole, id, peer = std::move(peer)] {
        if (!take_one(of, id, peer.get())) whole = false;
      });
    }
    for (std::thread& one : takers) one.join();
    return whole;
  }

 private:
  static bool take_one(const work& of, std::uint64_t id, int fd) {
    std::vector<std::byte> buffer(buffer_bytes);
    std::uint64_t taken = 0;
    while (true) {
      const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) return got == 0 && taken == of.bytes;
      const auto seen = std::span(buffer).first(static_cast<std::size_t>(got));
      if (of.verify && !of.payload->matches(id, taken, seen)) return false;
      taken += seen.size();
    }
  }
  descriptor listener_;
  std::uint16_t port_ = 0;
};

bool send_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

// One client: its number, its bytes, its end; then the other side's end.
bool give_one(const work& of, std::uint64_t id, int fd) {
  if (!send_all(fd, std::as_bytes(std::span(&id, 1)))) return false;
  for (std::uint64_t at = 0; at < of.bytes;) {
    const auto piece =
        of.payload->piece(id, at, std::min<std::uint64_t>(pattern::piece_max, of.bytes - at));
    if (!send_all(fd, piece)) return false;
    at += piece.size();
  }
  std::byte none{};
  return ::shutdown(fd, SHUT_WR) == 0 && ::recv(fd, &none, 1, 0) == 0;
}

std::optional<std::vector<descriptor>> connect_all(const work& of, std::uint16_t port) {
  std::vector<descriptor> all;
  const sockaddr_in address = loopback(port);
  for (unsigned i = 0; i < of.connections; ++i) {
    all.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int fd = all.back().get();
    for (const int which : {SO_RCVTIMEO, SO_SNDTIMEO}) {
      ::setsockopt(fd, SOL_SOCKET, which, &patience, sizeof patience);
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return std::nullopt;
    }
  }
  return all;
}

// Everything through whatever listens at `port`: the seconds it took.
std::optional<double> pass(const work& of, const target& to, std::uint16_t port) {
  const auto clients = connect_all(of, port);
  if (!clients) return std::nullopt;
  std::atomic<bool> given{true};
  const double start = seconds_now();
  std::vector<std::thread> givers;
  for (unsigned i = 0; i < of.connections; ++i) {
    givers.emplace_back([&, i] {
      if (!give_one(of, i, (*clients)[i].get())) given = false;
    });
  }
  const bool taken = to.take(of);
  for (std::thread& one : givers) one.join();
  if (!given || !taken) return std::nullopt;
  return seconds_now() - start;
}

struct entrant {
  std::optional<server> running;
  row seen;
};

void run_once(const work& of, const target& to, entrant& e, bool timed) {
  if (!e.running || !e.seen.unavailable.empty()) return;
  measurement measured(*e.running);
  const auto seconds = pass(of, to, e.running->port());
  if (!seconds) {
    e.seen.unavailable = "a connection broke, or its bytes were wrong";
  } else if (timed) {
    e.seen.runs.push_back(
        measured.finish(*seconds, of.connections, std::uint64_t{of.connections} * of.bytes));
  } else {
    e.seen.verified = of.verify;
  }
}

entrant make_entrant(const setup& on, const way& which, const work& of, const server_order& order) {
  entrant e;
  e.seen.way = which.name;
  e.seen.peer = which.peer;
  e.seen.kept = which.kept;
  e.seen.ours = which.ours();
  e.seen.object_bytes = of.bytes;
  e.seen.connections = of.connections;
  e.seen.bytes = std::uint64_t{of.connections} * of.bytes;
  e.seen.command = command_of(on, which, order);
  auto started = server::start(on, which, order);
  if (started) {
    e.running.emplace(std::move(*started));
  } else {
    e.seen.unavailable = started.error();
  }
  return e;
}

std::vector<way> chosen(const setup& on) {
  std::vector<way> kept;
  for (const way& which : relay_ways) {
    const bool wanted = which.name.find(on.only) != std::string::npos;
    if (wanted && (which.quick || on.how_much != effort::quick)) kept.push_back(which);
  }
  return kept;
}

struct contest {
  std::vector<row> rows;
  limit bound;
};

// All ways on the same work: one run each that is verified, then the timed ones in turn and back.
contest hold(const setup& on, const std::vector<way>& ways, work of, const std::string& directory,
             const target& to) {
  std::vector<entrant> entrants;
  const server_order order{"relay", directory, directory, fmt::format("127.0.0.1:{}", to.port())};
  for (const way& which : ways) entrants.push_back(make_entrant(on, which, of, order));
  of.verify = true;
  for (entrant& e : entrants) run_once(of, to, e, false);
  of.verify = false;
  std::vector<figures> alone;
  for (unsigned turn = 0; turn < on.runs; ++turn) {
    for (std::size_t i = 0; i < entrants.size(); ++i) {
      run_once(of, to, entrants[turn % 2 == 0 ? i : entrants.size() - 1 - i], true);
    }
    const auto seconds = pass(of, to, to.port());
    const double bytes = static_cast<double>(of.bytes) * of.connections;
    if (seconds) alone.push_back({{"rate", bytes / bytes_per_mib / *seconds}});
  }
  contest held;
  held.bound.object_bytes = of.bytes;
  held.bound.connections = of.connections;
  if (!alone.empty()) held.bound.network_mib_per_second = value(median(alone), "rate");
  for (entrant& e : entrants) {
    if (e.running) e.seen.claimed = e.running->stop();
    if (!e.seen.unavailable.empty()) e.seen.verified = false;
    held.rows.push_back(std::move(e.seen));
  }
  return held;
}

}  // namespace

outcome run_relay(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "relay";
  all.columns = {"mib_per_second",      "cpu_s_per_gib.process",   "cpu_s_per_gib.machine",
                 "of_limit.throughput", "of_best_peer.throughput", "of_best_peer.cpu"};
  all.notes.emplace_back("the limit is the same without a relay in between");
  const auto place = scratch::make(on.directory);
  const target to;
  if (!place || to.port() == 0) {
    all.notes.emplace_back("left out: no folder, or no port to listen at");
    return all;
  }
  const bool tiny = on.how_much == effort::tiny;
  const std::uint64_t whole = tiny                           ? 8 * mib
                              : on.how_much == effort::quick ? 512 * mib
                                                             : 2048 * mib;
  const std::vector<way> ways = chosen(on);
  for (const unsigned connections : {1U, 16U}) {
    const work of{&payload, whole / connections, connections};
    const std::string directory = place->folder(fmt::to_string(connections));
    if (connections > 1 && !ways.empty()) {
      const contest twice = hold(on, {ways.front(), ways.front()}, of, directory, to);
      all.floor = noise_between(twice.rows[0], twice.rows[1]);
    }
    contest held = hold(on, ways, of, directory, to);
    all.limits.push_back(held.bound);
    std::ranges::move(held.rows, std::back_inserter(all.rows));
  }
  compare(all);
  return all;
}

}  // namespace bench
