// Frames of a head and a payload each: one scatter receive brings many payloads to page-aligned
// places and copies none, where head and payload apart take two calls each, and one large receive
// leaves the payloads where a copy is needed. A receive that ends inside a piece fills those before
// it.
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <array>
#include <thread>

#include "probe.hpp"

namespace {

constexpr std::size_t frames = 6;
constexpr std::size_t head_bytes = 13;
constexpr std::size_t payload_bytes = 4096;
constexpr std::size_t frame_bytes = head_bytes + payload_bytes;
constexpr long stream_bytes = frames * frame_bytes;

char mark(std::size_t frame) { return static_cast<char>('a' + frame); }

// The whole stream lies in the receiver's socket when it returns.
void fill(const probe::descriptor_pair& ends, long bytes = stream_bytes) {
  std::string stream;
  for (std::size_t frame = 0; frame < frames; ++frame) {
    stream.append(head_bytes, static_cast<char>('A' + frame)).append(payload_bytes, mark(frame));
  }
  stream.resize(static_cast<std::size_t>(bytes));
  probe::send_all(ends.second.get(), stream);
  int arrived = 0;
  for (int waited_ms = 0; waited_ms < probe::patience_ms; ++waited_ms) {
    probe::must(::ioctl(ends.first.get(), FIONREAD, &arrived), "FIONREAD");
    if (arrived == bytes) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  probe::fail("the stream did not arrive");
}

struct places {
  std::array<std::array<char, head_bytes>, frames> heads{};
  probe::pages payloads{frames * payload_bytes};

  char* payload(std::size_t frame) const { return payloads.data() + frame * payload_bytes; }
  bool holds(std::size_t frame) const {
    const std::string wanted(payload_bytes, mark(frame));
    return heads[frame][0] == static_cast<char>('A' + frame) &&
           std::memcmp(payload(frame), wanted.data(), payload_bytes) == 0;
  }
};

long scatter(int fd, places& into) {
  std::array<iovec, 2 * frames> pieces;
  for (std::size_t frame = 0; frame < frames; ++frame) {
    pieces[2 * frame] = {into.heads[frame].data(), head_bytes};
    pieces[2 * frame + 1] = {into.payload(frame), payload_bytes};
  }
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  return probe::result_of(::recvmsg(fd, &message, 0));
}

void show() {
  const auto ends = probe::tcp_pair();
  {
    fill(ends);
    places into;
    probe::expect_equal(scatter(ends.first.get(), into), stream_bytes, "one scatter receive");
    for (std::size_t frame = 0; frame < frames; ++frame) {
      probe::expect(into.holds(frame), "every payload is in its page");
    }
  }
  {
    fill(ends);
    places into;
    int calls = 0;
    for (std::size_t frame = 0; frame < frames; ++frame) {
      const int fd = ends.first.get();
      calls += ::recv(fd, into.heads[frame].data(), head_bytes, 0) == head_bytes;
      calls += ::recv(fd, into.payload(frame), payload_bytes, 0) == payload_bytes;
      probe::expect(into.holds(frame), "head and payload by a call each");
    }
    probe::expect_equal(calls, 2 * frames, "calls for head and payload apart");
  }
  {
    fill(ends);
    const probe::pages buffer(16 * payload_bytes);
    probe::expect_equal(
        probe::result_of(::recv(ends.first.get(), buffer.data(), buffer.bytes(), 0)), stream_bytes,
        "one large receive");
    for (std::size_t frame = 0; frame < frames; ++frame) {
      const std::size_t at = frame * frame_bytes + head_bytes;
      probe::expect_equal(buffer.data()[at], mark(frame), "a payload of the large receive");
      probe::expect(at % payload_bytes != 0, "no payload of it lies in a page");
    }
  }
  {
    constexpr long part = 2 * frame_bytes + head_bytes + 100;
    fill(ends, part);
    places into;
    probe::expect_equal(scatter(ends.first.get(), into), part, "a scatter receive of a part");
    probe::expect(into.holds(0) && into.holds(1) && !into.holds(2), "two whole payloads of it");
    probe::expect_equal(into.payload(2)[99], mark(2), "the last byte that came");
    probe::expect_equal(into.payload(2)[100], 0, "the byte behind it");
  }
}

}  // namespace

int main() { return probe::run(show); }
