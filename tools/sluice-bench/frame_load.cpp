#include "frame_load.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "../bench-peers/frame_wire.hpp"
#include "load.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::uint64_t length_bytes = 8;
constexpr std::size_t frames_per_call = 128;
constexpr std::uint64_t bytes_per_call = std::uint64_t{512} << 10;
constexpr int calls_per_event = 4;
constexpr int silence_ms = 60'000;

struct connection {
  int fd = -1;
  std::uint64_t id = 0;
  std::uint64_t sent = 0;  // of the stream: the length and all frames
  std::array<unsigned char, peer::frame_answer_bytes> answer{};
  std::size_t answered = 0;
};

}  // namespace

struct frame_load::state {
  const pattern* payload = nullptr;
  frame_order wanted;
  int epoll_fd = -1;
  std::vector<connection> connections;
  std::array<std::array<unsigned char, peer::frame_head_bytes>, frames_per_call> heads{};
  std::vector<iovec> pieces;
  std::string problem;

  ~state() {
    for (const connection& one : connections) ::close(one.fd);
    if (epoll_fd >= 0) ::close(epoll_fd);
  }
  bool watch(int operation, std::size_t index, std::uint32_t events);
  [[nodiscard]] std::uint64_t stream_bytes() const;
  void plan(const connection& from);
  void plan_payload(const connection& from, std::uint64_t frame, std::uint64_t at);
  bool send(std::size_t index);
  bool receive(std::size_t index, bool& done);
  bool fail(const char* what);
};

bool frame_load::state::fail(const char* what) {
  problem = fmt::format("{}: {}", what, errno == 0 ? "the receiver gave up" : std::strerror(errno));
  return false;
}

bool frame_load::state::watch(int operation, std::size_t index, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = index;
  return ::epoll_ctl(epoll_fd, operation, connections[index].fd, &event) == 0 || fail("epoll_ctl");
}

std::uint64_t frame_load::state::stream_bytes() const {
  const std::uint64_t frames = wanted.bytes / wanted.payload_bytes;
  return length_bytes + frames * (peer::frame_head_bytes + wanted.payload_bytes);
}

void frame_load::state::plan_payload(const connection& from, std::uint64_t frame,
                                     std::uint64_t at) {
  while (at < wanted.payload_bytes) {
    const auto piece =
        payload->piece(from.id, frame * wanted.payload_bytes + at, wanted.payload_bytes - at);
    pieces.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    at += piece.size();
  }
}

// What one call offers to the socket, from where the stream stands: any byte of it.
void frame_load::state::plan(const connection& from) {
  pieces.clear();
  std::uint64_t at = from.sent;
  if (at < length_bytes) {
    peer::encode_number(heads[0].data(), wanted.bytes);
    pieces.push_back({heads[0].data() + at, length_bytes - at});
    return;
  }
  at -= length_bytes;
  const std::uint64_t frame_bytes = peer::frame_head_bytes + wanted.payload_bytes;
  const std::uint64_t frames = wanted.bytes / wanted.payload_bytes;
  std::uint64_t within = at % frame_bytes;
  std::uint64_t planned = 0;
  std::size_t used = 0;
  for (std::uint64_t frame = at / frame_bytes;
       frame < frames && used < frames_per_call && planned < bytes_per_call; ++frame) {
    unsigned char* const head = heads[used++].data();
    peer::encode_frame_head(head, {wanted.payload_bytes, frame * wanted.payload_bytes});
    if (within < peer::frame_head_bytes) {
      pieces.push_back({head + within, peer::frame_head_bytes - within});
      within = peer::frame_head_bytes;
    }
    plan_payload(from, frame, within - peer::frame_head_bytes);
    planned += frame_bytes;
    within = 0;
  }
}

// As much as the socket takes now, within bounds.
bool frame_load::state::send(std::size_t index) {
  connection& one = connections[index];
  for (int call = 0; call < calls_per_event && one.sent < stream_bytes(); ++call) {
    plan(one);
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    const ssize_t sent = ::sendmsg(one.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (sent < 0) return fail("send");
    one.sent += static_cast<std::uint64_t>(sent);
  }
  return one.sent < stream_bytes() || watch(EPOLL_CTL_MOD, index, EPOLLIN);
}

bool frame_load::state::receive(std::size_t index, bool& done) {
  connection& one = connections[index];
  const ssize_t got = ::recv(one.fd, one.answer.data() + one.answered,
                             one.answer.size() - one.answered, MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (got == 0) errno = 0;
  if (got <= 0) return fail("receive");
  one.answered += static_cast<std::size_t>(got);
  done = one.answered == one.answer.size();
  errno = 0;
  return !done || peer::decode_number(one.answer.data()) == 'k' || fail("receive");
}

frame_load::frame_load(std::unique_ptr<state> made) : state_(std::move(made)) {}
frame_load::frame_load(frame_load&&) noexcept = default;
frame_load& frame_load::operator=(frame_load&&) noexcept = default;
frame_load::~frame_load() = default;

std::expected<frame_load, std::string> frame_load::connect(const pattern& payload,
                                                           std::uint16_t port,
                                                           const frame_order& wanted) {
  auto made = std::make_unique<state>();
  made->payload = &payload;
  made->wanted = wanted;
  made->epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  for (unsigned index = 0; index < wanted.connections; ++index) {
    connection one;
    one.fd = connect_to(port);
    one.id = wanted.first_id + index;
    if (one.fd < 0) return std::unexpected(fmt::format("connect: {}", std::strerror(errno)));
    made->connections.push_back(one);
    // Not watched before the run: only errors are.
    if (!made->watch(EPOLL_CTL_ADD, index, 0)) return std::unexpected(made->problem);
  }
  return frame_load(std::move(made));
}

std::expected<frame_outcome, std::string> frame_load::run() {
  state& s = *state_;
  const double start = seconds_now();
  for (std::size_t index = 0; index < s.connections.size(); ++index) {
    if (!s.watch(EPOLL_CTL_MOD, index, EPOLLOUT)) return std::unexpected(s.problem);
  }
  frame_outcome seen;
  std::array<epoll_event, 256> events;
  for (std::size_t left = s.connections.size(); left > 0;) {
    const int ready =
        ::epoll_wait(s.epoll_fd, events.data(), static_cast<int>(events.size()), silence_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::unexpected("nothing moved for a minute");
    for (int i = 0; i < ready; ++i) {
      const std::size_t index = events[static_cast<std::size_t>(i)].data.u64;
      connection& one = s.connections[index];
      bool done = false;
      const bool fine = one.sent < s.stream_bytes() ? s.send(index) : s.receive(index, done);
      if (!fine) return std::unexpected(s.problem);
      if (!done) continue;
      --left;
      seen.receives += peer::decode_number(one.answer.data() + 8);
      seen.sum += peer::decode_number(one.answer.data() + 16);
      if (!s.watch(EPOLL_CTL_DEL, index, 0)) return std::unexpected(s.problem);
    }
  }
  seen.seconds = seconds_now() - start;
  return seen;
}

std::uint64_t expected_sum(const pattern& payload, const frame_order& sent) {
  std::uint64_t sum = 0;
  for (unsigned index = 0; index < sent.connections; ++index) {
    for (std::uint64_t at = 0; at < sent.bytes;) {
      const auto piece = payload.piece(sent.first_id + index, at, sent.bytes - at);
      sum += peer::check_sum(piece.data(), piece.size(), at);
      at += piece.size();
    }
  }
  return sum;
}

}  // namespace bench
