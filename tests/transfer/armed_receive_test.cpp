// Mode multishot: a receive is always posted, and its buffers are everybody's. What all modes have
// in common is tested in frame_receiver_test.cpp and frame_silence_test.cpp.
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sluice/frames.hpp"
#include "support/adopted_stream.hpp"
#include "support/engine_fixture.hpp"
#include "support/framed_stream.hpp"
#include "support/needs_ring.hpp"
#include "support/stream_pair.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using support::adopt;
using support::engine_fixture;
using support::frame_keeper;
using support::framed_stream;
using support::next_of;
using support::stream_pair;

// One end of a connection with a receiver in mode multishot.
struct framed_peer {
  explicit framed_peer(engine& e)
      : pair(stream_pair::tcp()),
        from(adopt(e, pair.take_ours())),
        frames(e, from, support::framed::protocol(), {frame_mode::multishot}) {}
  framed_peer(const framed_peer&) = delete;
  framed_peer& operator=(const framed_peer&) = delete;

  // What the kernel has and nobody took.
  [[nodiscard]] int unread() const {
    int bytes = 0;
    REQUIRE(::ioctl(from.fd(), FIONREAD, &bytes) == 0);
    return bytes;
  }
  stream_pair pair;
  stream from;
  frame_receiver frames;
};

framed_stream pieces(std::uint64_t seed, std::size_t count, std::size_t bytes) {
  framed_stream made(seed);
  for (std::size_t i = 0; i < count; ++i) made.piece(bytes);
  return made;
}

void turns(engine_fixture& f, int count) {
  for (int i = 0; i < count; ++i) f->run_once(1ms);
}

// Takes the rest of what was sent; whether all is right.
bool take_all(engine_fixture& f, framed_peer& l, frame_keeper& seen, const framed_stream& sent) {
  bool right = true;
  while (right && seen.frames.size() < sent.frames().size()) {
    result<frame> got = f.run(next_of(l.frames, 5s));
    right = got && *got && seen.take(std::move(*got));
  }
  return right && seen.let_go_of_all() && seen.frames == sent.frames();
}

}  // namespace

TEST_CASE("where no ring carries it, every call is refused") {
  const auto refused = [](engine_fixture& f) {
    framed_peer l(*f);
    for (int i = 0; i < 2; ++i) {
      const result<frame> got = f.run(next_of(l.frames));
      REQUIRE(!got.has_value());
      CHECK(got.error().code == EOPNOTSUPP);
    }
  };
  engine_fixture pool("pool");
  refused(pool);
  engine_fixture ring("ring", {{"sluice.capabilities.hidden", "ring.op.recv_multishot"}});
  refused(ring);
}

TEST_CASE("the knob asks for it as the option does") {
  engine_fixture f("ring", {{"sluice.frames.mode", "multishot"}});
  framed_peer l(*f);
  frame_receiver by_knob(*f, l.from, support::framed::protocol());
  const framed_stream sent = pieces(1, 1, 5000);
  support::send_all(l.pair.theirs(), sent.bytes());
  CHECK(f.run(next_of(by_knob))->payload.size() == 5000);
  CHECK(by_knob.stats().mode == frame_mode::multishot);
  CHECK(by_knob.stats().copied_bytes == 5000);
}

TEST_CASE("where no ring carries it, the knob has frames received contiguously") {
  engine_fixture f("pool", {{"sluice.frames.mode", "multishot"}});
  stream_pair pair = stream_pair::tcp();
  stream from = adopt(*f, pair.take_ours());
  frame_receiver frames(*f, from, support::framed::protocol());
  const framed_stream sent = pieces(1, 1, 5000);
  support::send_all(pair.theirs(), sent.bytes());
  CHECK(f.run(next_of(frames))->payload.size() == 5000);
  CHECK(frames.stats().mode == frame_mode::contiguous);
}

TEST_CASE("a silent peer holds nothing after a receive by hand, whatever the time limit") {
  engine_fixture f("ring",
                   {{"sluice.frames.provided_bytes", "64K"}, {"sluice.frames.idle_ms", "5"}});
  framed_peer slow(*f);
  framed_peer other(*f);
  const framed_stream sent = pieces(5, 2, 16'384);
  support::send_all(slow.pair.theirs(), sent.bytes().first(20'000));
  CHECK(f.run(next_of(slow.frames))->payload.size() == 16'384);
  support::send_all(slow.pair.theirs(), sent.bytes().subspan(20'000));
  turns(f, 20);
  // The one buffer is taken.
  support::send_all(other.pair.theirs(), sent.bytes());
  for (int i = 0; i < 2; ++i) CHECK(f.run(next_of(other.frames))->payload.size() == 16'384);
  const std::uint64_t held = f.counter("sluice.memory.leases_in_use");
  for (int i = 0; i < 3; ++i) CHECK(f.run(next_of(other.frames, 3ms)).error().code == ETIMEDOUT);
  CHECK(f.counter("sluice.memory.leases_in_use") < held);
}

TEST_CASE("what comes between two calls is received before the second") {
  engine_fixture f("ring");
  framed_peer l(*f);
  const framed_stream sent = pieces(2, 3, 5000);
  frame_keeper seen(0);
  support::send_all(l.pair.theirs(), sent.bytes().first(6000));
  CHECK(seen.take(*f.run(next_of(l.frames))));
  support::send_all(l.pair.theirs(), sent.bytes().subspan(6000));
  for (int i = 0; i < 1000 && l.unread() > 0; ++i) turns(f, 1);
  CHECK(l.unread() == 0);
  CHECK(take_all(f, l, seen, sent));
}

TEST_CASE("bundles give the same frames, in every size and split") {
  for (const char* block : {"64K", "128K"}) {
    engine_fixture f("ring", {{"sluice.frames.bundles", "on"},
                              {"sluice.memory.block_bytes", block},
                              {"sluice.memory.arena_bytes", "8M"}});
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      CAPTURE(seed);
      framed_peer l(*f);
      framed_stream sent(seed);
      sent.anything(400);
      std::jthread peer([fd = l.pair.take_theirs(), &sent, seed] {
        support::seeded_random random(seed);
        std::span<const std::byte> rest = sent.bytes();
        while (!rest.empty()) {
          const std::size_t most = std::min<std::size_t>(rest.size(), 700'000);
          const std::size_t some = 1 + random.below(most);
          if (!support::send_all(fd, rest.first(some))) break;
          rest = rest.subspan(some);
        }
        ::close(fd);
      });
      frame_keeper seen(3);
      CHECK(take_all(f, l, seen, sent));
      CHECK(!*f.run(next_of(l.frames)));  // the end
    }
  }
}

TEST_CASE("who is slow keeps a share of the buffers and no more, and the others go on") {
  // Sixteen buffers of 64 KiB; a share is two.
  engine_fixture f("ring",
                   {{"sluice.memory.arena_bytes", "8M"}, {"sluice.frames.provided_bytes", "1M"}});
  framed_peer slow(*f);
  framed_peer other(*f);
  const framed_stream much = pieces(3, 200, 16'384);  // 3.2 MB
  std::jthread peer([fd = slow.pair.theirs(), &much] { support::send_all(fd, much.bytes()); });
  frame_keeper seen(0);
  CHECK(seen.take(*f.run(next_of(slow.frames))));
  turns(f, 50);
  // It has stopped by itself, with bytes left to be had.
  const int left = slow.unread();
  CHECK(left > 0);
  turns(f, 50);
  CHECK(slow.unread() >= left);
  const framed_stream little = pieces(4, 20, 16'384);
  std::jthread second(
      [fd = other.pair.theirs(), &little] { support::send_all(fd, little.bytes()); });
  frame_keeper others(0);
  CHECK(take_all(f, other, others, little));
  CHECK(take_all(f, slow, seen, much));
}

TEST_CASE("without a buffer left frames are received by hand") {
  // One buffer for all, and one who has it and does not look.
  engine_fixture f("ring", {{"sluice.frames.provided_bytes", "64K"}});
  framed_peer slow(*f);
  framed_peer other(*f);
  const framed_stream sent = pieces(5, 12, 16'384);
  frame_keeper seen(0);
  support::send_all(slow.pair.theirs(), sent.bytes().first(20'000));
  CHECK(seen.take(*f.run(next_of(slow.frames))));
  support::send_all(slow.pair.theirs(), sent.bytes().subspan(20'000));
  turns(f, 20);
  std::jthread peer([fd = other.pair.theirs(), &sent] { support::send_all(fd, sent.bytes()); });
  frame_keeper others(0);
  CHECK(take_all(f, other, others, sent));
  CHECK(other.frames.stats().mode == frame_mode::contiguous);
  CHECK(take_all(f, slow, seen, sent));
}

TEST_CASE("a pool without a block to spare has frames received by hand") {
  engine_fixture f("ring");
  framed_peer l(*f);
  std::vector<lease> held;
  const auto take = [&]() -> task<int> {
    while (held.size() < 8) {
      result<lease> got = co_await f->acquire_block();
      if (got) held.push_back(std::move(*got));
    }
    co_return 0;
  };
  CHECK(f.run(take()) == 0);
  const framed_stream sent = pieces(6, 4, 5000);
  support::send_all(l.pair.theirs(), sent.bytes());
  frame_keeper seen(0);
  CHECK(take_all(f, l, seen, sent));
  CHECK(l.frames.stats().mode == frame_mode::contiguous);
}

TEST_CASE("a receiver may end while its receive is posted, filled or being taken back") {
  engine_fixture f("ring", {{"sluice.frames.provided_bytes", "64K"}});
  const framed_stream sent = pieces(7, 4, 5000);
  for (int when = 0; when < 4; ++when) {
    CAPTURE(when);
    stream_pair pair = stream_pair::tcp();
    stream from = adopt(*f, pair.take_ours());
    {
      frame_receiver frames(*f, from, support::framed::protocol(), {frame_mode::multishot});
      if (when > 0) CHECK(f.run(next_of(frames, 5ms)).error().code == ETIMEDOUT);
      if (when > 1) support::send_all(pair.theirs(), sent.bytes());
      if (when > 2) turns(f, 3);
    }
    turns(f, 3);
    CHECK(f.counter("sluice.memory.leases_in_use") == 0);
    // Nothing takes what comes from now on.
    std::vector<std::byte> rest(65'536);
    ::recv(from.fd(), rest.data(), rest.size(), MSG_DONTWAIT);
    support::send_all(pair.theirs(), sent.bytes().first(10));
    turns(f, 3);
    int unread = 0;
    CHECK(::ioctl(from.fd(), FIONREAD, &unread) == 0);
    CHECK(unread == 10);
  }
}

TEST_CASE("many silent peers hold what one does") {
  engine_fixture f("ring");
  std::vector<std::unique_ptr<framed_peer>> all;
  for (int i = 0; i < 20; ++i) all.push_back(std::make_unique<framed_peer>(*f));
  CHECK(f.run(next_of(all[0]->frames, 1ms)).error().code == ETIMEDOUT);
  const std::uint64_t held = f.counter("sluice.memory.leases_in_use");
  for (const auto& l : all) CHECK(f.run(next_of(l->frames, 1ms)).error().code == ETIMEDOUT);
  CHECK(f.counter("sluice.memory.leases_in_use") == held);
  framed_stream sent(8);
  sent.note(50);
  for (const auto& l : all) {
    support::send_all(l->pair.theirs(), sent.bytes());
    frame_keeper seen(0);
    CHECK(take_all(f, *l, seen, sent));
    CHECK(f.run(next_of(l->frames, 1ms)).error().code == ETIMEDOUT);  // what it read lies free
  }
  CHECK(f.counter("sluice.memory.leases_in_use") == held);
  CHECK(f.counter("sluice.frames.receives") == all.size());
}
