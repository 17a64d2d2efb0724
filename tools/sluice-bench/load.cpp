#include "load.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <utility>

#include "usage.hpp"

namespace bench {

namespace {

constexpr double silence_seconds_max = 60;

// epoll_wait in nanoseconds: an open loop keeps times below a millisecond.
int wait_for(int epoll_fd, std::array<epoll_event, 256>& events, double seconds) {
  const double bounded = std::max(seconds, 0.0);
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(bounded);
  timeout.tv_nsec = static_cast<long>((bounded - std::floor(bounded)) * 1e9);
  return ::epoll_pwait2(epoll_fd, events.data(), static_cast<int>(events.size()), &timeout,
                        nullptr);
}

}  // namespace

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
    const int problem = errno;
    if (fd >= 0) ::close(fd);
    errno = problem;
    return -1;
  }
  return fd;
}

struct load_generator::state {
  request_form form;
  const pattern* payload = nullptr;
  std::vector<std::byte> into = std::vector<std::byte>(std::size_t{256} << 10);
  int epoll_fd = -1;
  std::vector<exchange> connections;
  std::vector<bool> busy;
  std::array<epoll_event, 256> events{};
  std::string problem;
  std::string last_head;

  ~state() {
    if (epoll_fd >= 0) ::close(epoll_fd);
  }
  bool begin(std::size_t index, std::uint64_t id);
  bool progress(std::size_t index, bool& answered);
  int wait(double seconds);
};

// Sends what the socket takes; the rest goes out when epoll says so.
bool load_generator::state::begin(std::size_t index, std::uint64_t id) {
  exchange& one = connections[index];
  busy[index] = true;
  one.begin(id);
  if (one.send() != exchange::status::failed) return true;
  problem = one.problem();
  return false;
}

// Called when epoll reports the connection. False: it failed.
bool load_generator::state::progress(std::size_t index, bool& answered) {
  exchange& one = connections[index];
  answered = false;
  const exchange::status out = one.sent() ? exchange::status::done : one.send();
  const exchange::status in =
      out == exchange::status::failed ? exchange::status::failed : one.receive();
  if (in == exchange::status::failed) {
    problem = one.problem();
    return false;
  }
  answered = in == exchange::status::done;
  if (answered && out != exchange::status::done) {
    problem = "the server answered before it had everything";
    return false;
  }
  if (answered) {
    busy[index] = false;
    last_head = one.answer_head();
  }
  return true;
}

int load_generator::state::wait(double seconds) {
  const int ready = wait_for(epoll_fd, events, seconds);
  if (ready < 0 && errno != EINTR) problem = fmt::format("epoll: {}", std::strerror(errno));
  return std::max(ready, 0);
}

load_generator::load_generator(std::unique_ptr<state> made) : state_(std::move(made)) {}
load_generator::load_generator(load_generator&&) noexcept = default;
load_generator& load_generator::operator=(load_generator&&) noexcept = default;
load_generator::~load_generator() = default;

std::expected<load_generator, std::string> load_generator::connect(const request_form& form,
                                                                   const pattern& payload,
                                                                   std::uint16_t port,
                                                                   unsigned connections) {
  auto made = std::make_unique<state>();
  made->form = form;
  made->payload = &payload;
  made->epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  made->connections.reserve(connections);
  for (unsigned index = 0; index < connections; ++index) {
    const int fd = connect_to(port);
    if (fd < 0) return std::unexpected(fmt::format("connect: {}", std::strerror(errno)));
    made->connections.emplace_back(made->form, payload, made->into, fd);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u64 = index;
    if (::epoll_ctl(made->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
      return std::unexpected(fmt::format("epoll: {}", std::strerror(errno)));
    }
  }
  made->busy.resize(connections);
  // That a connection can be written to is reported once: not of interest.
  while (wait_for(made->epoll_fd, made->events, 0) > 0) continue;
  return load_generator(std::move(made));
}

std::expected<load_outcome, std::string> load_generator::run(const closed_load& wanted) {
  state& s = *state_;
  load_outcome seen;
  seen.first_id = wanted.first_id;
  std::uint64_t begun = 0;
  std::uint64_t under_way = 0;
  const double start = seconds_now();
  double heard = start;
  const auto more_to_do = [&] {
    return begun < wanted.requests || (wanted.seconds > 0 && heard - start < wanted.seconds);
  };
  for (std::size_t index = 0; index < s.connections.size() && more_to_do(); ++index) {
    if (!s.begin(index, wanted.first_id + begun++)) return std::unexpected(s.problem);
    ++under_way;
  }
  while (under_way > 0) {
    const int ready = s.wait(1);
    if (!s.problem.empty()) return std::unexpected(s.problem);
    const double now = seconds_now();
    if (ready > 0) heard = now;
    if (now - heard > silence_seconds_max) return std::unexpected("no answer for a minute");
    for (int event = 0; event < ready; ++event) {
      const std::size_t index = s.events[static_cast<std::size_t>(event)].data.u64;
      bool answered = false;
      if (!s.busy[index]) continue;
      if (!s.progress(index, answered)) return std::unexpected(s.problem);
      if (!answered) continue;
      ++seen.requests;
      --under_way;
      if (!more_to_do()) continue;
      if (!s.begin(index, wanted.first_id + begun++)) return std::unexpected(s.problem);
      ++under_way;
    }
  }
  seen.seconds = seconds_now() - start;
  seen.answer_head = s.last_head;
  return seen;
}

std::expected<load_outcome, std::string> load_generator::run(const open_load& wanted) {
  state& s = *state_;
  prctl(PR_SET_TIMERSLACK, 1);
  std::mt19937_64 random(wanted.seed);
  std::exponential_distribution<double> gap(wanted.requests_per_second);
  std::vector<std::size_t> free;
  for (std::size_t index = s.connections.size(); index > 0; --index) free.push_back(index - 1);
  std::vector<double> due(s.connections.size());
  std::deque<double> waiting;
  load_outcome seen;
  const double start = seconds_now();
  const double end = start + wanted.seconds;
  double next = start + gap(random);
  std::uint64_t id = 0;
  while (next < end || !waiting.empty() || free.size() < s.connections.size()) {
    double now = seconds_now();
    if (now > end + silence_seconds_max) return std::unexpected("no answer for a minute");
    for (; next <= now && next < end; next += gap(random)) waiting.push_back(next);
    while (!waiting.empty() && !free.empty()) {
      const std::size_t index = free.back();
      free.pop_back();
      due[index] = waiting.front();
      waiting.pop_front();
      if (!s.begin(index, id++)) return std::unexpected(s.problem);
    }
    now = seconds_now();
    const int ready = s.wait(next < end ? next - now : 1);
    if (!s.problem.empty()) return std::unexpected(s.problem);
    for (int event = 0; event < ready; ++event) {
      const std::size_t index = s.events[static_cast<std::size_t>(event)].data.u64;
      bool answered = false;
      if (!s.busy[index]) continue;
      if (!s.progress(index, answered)) return std::unexpected(s.problem);
      if (!answered) continue;
      seen.latencies_us.push_back((seconds_now() - due[index]) * 1e6);
      free.push_back(index);
    }
  }
  seen.requests = seen.latencies_us.size();
  seen.seconds = seconds_now() - start;
  std::sort(seen.latencies_us.begin(), seen.latencies_us.end());
  return seen;
}

void let_accept(unsigned connections) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20) +
                              std::chrono::microseconds(20) * connections);
}

}  // namespace bench
