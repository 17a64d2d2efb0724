// Requests and answers of 17 bytes over many connections that are mostly silent: what each way to
// wait for the next one costs the receiver. Beside the plain ways stands sluice::frame_receiver.
//
//   small_messages CONNECTIONS SPOKEN MESSAGES RUNS
//
// A client sends a request on each of SPOKEN connections, and with every answer the next one on
// some other, MESSAGES in all. Each way is a process of its own with its own connections, client
// and server pinned to the first two processors; RUNS times in turn. Printed for each way: CPU
// microseconds of the server per message, median and spread, and messages per second. A processor
// that sleeps between messages has what it takes to wake in its figure; on a virtual machine that
// is most of it.
//
// Fair settings: one thread, one ring with deferred task work; 64 provided buffers of 4 KiB, given
// back at once; an answer goes out as an op of the ring, and what was received before it is over.
#include "small_messages.hpp"

#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "provided_buffers.hpp"
#include "sluice/engine.hpp"
#include "sluice/frames.hpp"
#include "sluice/knobs.hpp"
#include "sluice/stream.hpp"

namespace {

using peer::message;
using peer::message_bytes;
using peer::sockets;

constexpr std::size_t buffer_bytes = 4096;

void serve_epoll(const sockets& from) {
  const peer::owned_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (const peer::owned_fd& socket : from) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.fd = socket.get();
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket.get(), &wanted);
  }
  std::array<epoll_event, 256> found;
  message bytes;
  while (true) {
    const int count = ::epoll_wait(epoll.get(), found.data(), found.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int socket = found[static_cast<std::size_t>(i)].data.fd;
      if (::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT) != message_bytes) return;
      ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
  }
}

enum class ring_way { recv, poll_recv, provided, multishot, bundles };

// One op per connection that waits, and then one that answers.
class ring_server {
 public:
  ring_server(const sockets& from, ring_way way);
  ring_server(const ring_server&) = delete;
  ring_server& operator=(const ring_server&) = delete;
  ~ring_server();
  void run();

 private:
  enum step : std::uint64_t { waited, received, sent, steps };
  static constexpr unsigned buffer_count = 64;

  io_uring_sqe* entry(std::size_t connection, step next);
  void wait_for(std::size_t connection);
  void receive(std::size_t connection);
  bool answer(const io_uring_cqe& found);

  const sockets& from_;
  const ring_way way_;
  const bool provides_;
  const bool multishot_;
  peer::provided_buffers buffers_;
  io_uring ring_{};
  char* memory_ = nullptr;        // a buffer for each connection, where none are provided
  std::vector<message> answers_;  // by connection
};

ring_server::ring_server(const sockets& from, ring_way way)
    : from_(from),
      way_(way),
      provides_(way != ring_way::recv && way != ring_way::poll_recv),
      multishot_(way == ring_way::multishot || way == ring_way::bundles),
      buffers_(buffer_count, buffer_bytes),
      answers_(from.size()) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
  params.cq_entries = 4096;
  if (::io_uring_queue_init_params(256, &ring_, &params) < 0)
    peer::fail_here("io_uring_queue_init_params");
  if (provides_) {
    if (buffers_.begin(ring_) < 0) peer::fail_here("io_uring_register_buf_ring");
    return;
  }
  memory_ = static_cast<char*>(std::aligned_alloc(buffer_bytes, from.size() * buffer_bytes));
  if (memory_ == nullptr) peer::fail_here("aligned_alloc");
}

ring_server::~ring_server() {
  ::io_uring_queue_exit(&ring_);
  std::free(memory_);
}

io_uring_sqe* ring_server::entry(std::size_t connection, step next) {
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    ::io_uring_submit(&ring_);
    sqe = ::io_uring_get_sqe(&ring_);
  }
  ::io_uring_sqe_set_data64(sqe, connection * steps + next);  // no prep call touches it
  return sqe;
}

void ring_server::receive(std::size_t connection) {
  io_uring_sqe* sqe = entry(connection, received);
  const int socket = from_[connection].get();
  if (multishot_) {
    ::io_uring_prep_recv_multishot(sqe, socket, nullptr, 0, 0);
  } else if (provides_) {
    ::io_uring_prep_recv(sqe, socket, nullptr, buffer_bytes, 0);
  } else {
    ::io_uring_prep_recv(sqe, socket, memory_ + connection * buffer_bytes, buffer_bytes, 0);
  }
  if (provides_) peer::provided_buffers::use(*sqe, way_ == ring_way::bundles);
}

void ring_server::wait_for(std::size_t connection) {
  if (way_ != ring_way::poll_recv) return receive(connection);
  ::io_uring_prep_poll_add(entry(connection, waited), from_[connection].get(), POLLIN);
}

// False: the client has gone.
bool ring_server::answer(const io_uring_cqe& found) {
  const std::size_t connection = found.user_data / steps;
  const bool armed = (found.flags & IORING_CQE_F_MORE) != 0;
  if (found.res == -ENOBUFS) {
    wait_for(connection);
    return true;
  }
  if (found.res <= 0) return false;
  switch (found.user_data % steps) {
    case waited: receive(connection); return true;
    case sent:
      if (!multishot_) wait_for(connection);
      return true;
    default: break;
  }
  message& text = answers_[connection];
  const auto copy = [&text](const char* data, std::size_t) {
    std::memcpy(text.data(), data, text.size());
    return true;
  };
  if (provides_) {
    buffers_.take(found, copy);
  } else {
    copy(memory_ + connection * buffer_bytes, buffer_bytes);
  }
  ::io_uring_prep_send(entry(connection, sent), from_[connection].get(), text.data(), text.size(),
                       MSG_NOSIGNAL);
  if (multishot_ && !armed) receive(connection);
  return true;
}

void ring_server::run() {
  for (std::size_t connection = 0; connection < from_.size(); ++connection) wait_for(connection);
  std::array<io_uring_cqe, 256> answers;
  while (true) {
    ::io_uring_submit_and_wait(&ring_, 1);
    unsigned count = 0;
    unsigned head = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      answers[count++] = *cqe;
      if (count == answers.size()) break;
    }
    ::io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      if (!answer(answers[i])) return;
    }
  }
}

sluice::frame_shape shape_of(void*, std::span<const std::byte>) noexcept {
  return {.head_bytes = 5, .payload_bytes = message_bytes - 5, .place = sluice::frame_place::view};
}

sluice::task<void> answer_frames(sluice::engine& on, sluice::stream from) {
  const sluice::frame_protocol protocol{.head_bytes_min = 5,
                                        .head_bytes_max = 5,
                                        .payload_bytes_max = message_bytes,
                                        .parse = shape_of};
  sluice::frame_receiver frames(on, from, protocol);
  while (true) {
    const sluice::result<sluice::frame> request = co_await frames.next();
    if (!request || !*request) co_return;
    const std::span<const std::byte> all(request->head.data(), message_bytes);
    const sluice::result<std::size_t> sent = co_await from.send(all);
    if (!sent) co_return;
  }
}

void serve_frames(sockets& from, const char* backend, const char* idle_ms) {
  sluice::knobs settings;
  if (!settings.set("sluice.backend", backend) || !settings.set("sluice.frames.idle_ms", idle_ms))
    peer::fail_here("knobs");
  sluice::result<sluice::engine> made = sluice::engine::create(settings);
  if (!made) peer::fail_here("engine");
  for (peer::owned_fd& socket : from) {
    const int number = ::dup(socket.get());  // a stream owns its descriptor
    sluice::result<sluice::stream> adopted = sluice::stream::adopt(*made, number);
    if (!adopted) peer::fail_here("adopt");
    made->spawn(answer_frames(*made, std::move(*adopted)));
  }
  made->run();
}

struct way {
  const char* name;
  std::function<void(sockets&)> serve;
  std::string refused = {};  // why it cannot be measured here
};

const std::vector<way>& ways() {
  const auto ring = [](ring_way which) {
    return [which](sockets& from) { ring_server(from, which).run(); };
  };
  static const std::vector<way> all = {
      {"epoll", serve_epoll},
      {"receive into a buffer each", ring(ring_way::recv)},
      {"poll, then receive", ring(ring_way::poll_recv)},
      {"receive, provided buffers", ring(ring_way::provided)},
      {"multishot, provided buffers", ring(ring_way::multishot)},
      {"multishot, bundles", ring(ring_way::bundles), peer::bundle_trial::run()},
      {"sluice, ring", [](sockets& from) { serve_frames(from, "ring", "200"); }},
      {"sluice, ring, idle_ms=1", [](sockets& from) { serve_frames(from, "ring", "1"); }},
      {"sluice, pool", [](sockets& from) { serve_frames(from, "pool", "200"); }},
  };
  return all;
}

struct figures {
  double cpu_us = 0;
  double per_second = 0;
};

figures measure(const way& by, std::size_t connections, std::size_t spoken, std::size_t messages) {
  sockets ours;
  sockets theirs;
  peer::connect_all(connections, ours, theirs);
  const pid_t server = ::fork();
  if (server < 0) peer::fail_here("fork");
  if (server == 0) {
    ours.clear();
    peer::pin_to(1);
    by.serve(theirs);
    std::_Exit(0);
  }
  theirs.clear();
  clockid_t cpu{};
  if (::clock_getcpuclockid(server, &cpu) != 0) peer::fail_here("clock_getcpuclockid");
  peer::client asks(ours);
  for (std::size_t i = 0; i < spoken; ++i) asks.speak();
  const std::size_t warm = messages / 10 + spoken;
  std::size_t answered = 0;
  std::size_t counted_from = 0;
  double cpu_before = 0;
  double before = 0;
  while (answered < warm + messages) {
    const std::size_t more = asks.listen();
    answered += more;
    if (counted_from == 0 && answered >= warm) {
      counted_from = answered;
      cpu_before = peer::seconds_of(cpu);
      before = peer::seconds_of(CLOCK_MONOTONIC);
    }
    for (std::size_t i = 0; i < more; ++i) asks.speak();
  }
  const auto counted = static_cast<double>(answered - counted_from);
  const figures got{(peer::seconds_of(cpu) - cpu_before) * 1e6 / counted,
                    counted / (peer::seconds_of(CLOCK_MONOTONIC) - before)};
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  return got;
}

double middle(std::vector<double>& of) {
  std::sort(of.begin(), of.end());
  return of[of.size() / 2];
}

constexpr int status_skipped = 77;  // as meson wants it

bool has_ring() {
  io_uring ring{};
  const bool made = ::io_uring_queue_init(8, &ring, 0) == 0;
  if (made) ::io_uring_queue_exit(&ring);
  return made;
}

}  // namespace

int main(int argc, char** argv) {
  peer::settings options;
  options.program = ::basename(argv[0]);
  if (argc != 5) peer::refuse(options, "CONNECTIONS SPOKEN MESSAGES RUNS");
  const std::size_t connections = peer::parse_number(options, argv[1], 100'000);
  const std::size_t spoken = peer::parse_number(options, argv[2], connections);
  const std::size_t messages = peer::parse_number(options, argv[3], 1'000'000'000);
  const std::size_t runs = peer::parse_number(options, argv[4], 1000);
  if (spoken == 0 || messages == 0 || runs == 0) peer::refuse(options, "0 measures nothing");
  if (!has_ring()) {
    std::fprintf(stderr, "small_messages: no io_uring here\n");
    return status_skipped;
  }
  peer::raise_fd_limit();
  peer::pin_to(0);
  std::vector<std::vector<double>> cpu_us(ways().size());
  std::vector<std::vector<double>> per_second(ways().size());
  for (std::size_t run = 0; run < runs; ++run) {
    for (std::size_t i = 0; i < ways().size(); ++i) {
      if (!ways()[i].refused.empty()) continue;
      const figures got = measure(ways()[i], connections, spoken, messages);
      cpu_us[i].push_back(got.cpu_us);
      per_second[i].push_back(got.per_second);
    }
  }
  for (std::size_t i = 0; i < ways().size(); ++i) {
    if (const std::string& why = ways()[i].refused; !why.empty()) {
      std::printf("%-28s n/a: %s\n", ways()[i].name, why.c_str());
      continue;
    }
    const double median = middle(cpu_us[i]);
    std::printf("%-28s %7.2f us CPU per message (%.2f to %.2f), %8.0f messages/s\n", ways()[i].name,
                median, cpu_us[i].front(), cpu_us[i].back(), middle(per_second[i]));
  }
  return 0;
}
