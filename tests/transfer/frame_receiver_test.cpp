// The public receiver over real sockets, on both backends. What it makes of every kind of stream is
// tested without a kernel in frame_assembler_test.cpp.
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
#include "support/frame_modes.hpp"
#include "support/framed_stream.hpp"
#include "support/stream_pair.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using support::adopt;
using support::backends;
using support::engine_fixture;
using support::frame_keeper;
using support::framed_stream;
using support::next_of;
using support::seeded_random;
using support::stream_pair;

// How a stream of frames ended: 0 between two frames, else the error.
struct reading {
  std::vector<support::whole_frame> frames;
  frame_stats stats;
  int end = 0;
  bool as_promised = true;
};

task<reading> read_all(engine& e, stream from, frame_mode mode) {
  reading r;
  frame_keeper seen(3);
  frame_receiver frames(e, from, support::framed::protocol(), {mode});
  while (true) {
    result<frame> f = co_await frames.next();
    if (!f) r.end = f.error().code;
    if (!f || !*f) break;
    r.as_promised = seen.take(std::move(*f)) && r.as_promised;
  }
  r.as_promised = seen.let_go_of_all() && r.as_promised;
  r.frames = std::move(seen.frames);
  r.stats = frames.stats();
  co_return r;
}

// Holds every block for a moment beyond its frame, as a write does.
task<void> hold(engine& e, lease block) {
  co_await e.sleep_for(200us);
  block.reset();
}

task<reading> read_and_write(engine& e, stream from, frame_mode mode) {
  reading r;
  frame_keeper seen(0);
  frame_receiver frames(e, from, support::framed::protocol(), {mode});
  while (true) {
    result<frame> f = co_await frames.next();
    if (!f) r.end = f.error().code;
    if (!f || !*f) break;
    if (f->block) e.spawn(hold(e, f->block.part(0, f->block.size())));
    r.as_promised = seen.take(std::move(*f)) && r.as_promised;
  }
  r.frames = std::move(seen.frames);
  co_return r;
}

void send_in_pieces(int fd, std::span<const std::byte> bytes, std::uint64_t seed) {
  seeded_random random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random.one_in(3) ? 50'000 : 100;
    const std::size_t count = std::min<std::size_t>(bytes.size(), 1 + random.below(most));
    if (!support::send_all(fd, bytes.first(count))) return;
    bytes = bytes.subspan(count);
    if (random.one_in(16)) std::this_thread::sleep_for(100us);
  }
}

}  // namespace

TEST_CASE("a stream in random pieces gives the same frames in every mode on every backend") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    for (const frame_mode mode : support::frame_modes(backend)) {
      CAPTURE(static_cast<int>(mode));
      for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(seed);
        engine_fixture f(backend);
        framed_stream sent(seed);
        sent.anything(300);
        stream_pair pair = seed % 2 == 0 ? stream_pair::tcp() : stream_pair::local();
        std::jthread peer([fd = pair.take_theirs(), &sent, seed] {
          send_in_pieces(fd, sent.bytes(), seed);
          ::close(fd);
        });
        const reading r = f.run(read_all(*f, adopt(*f, pair.take_ours()), mode));
        CHECK(r.end == 0);
        CHECK(r.as_promised);
        CHECK(r.frames == sent.frames());
        CHECK(r.stats.bytes == sent.bytes().size());
        CHECK(f.counter("sluice.frames.bytes") == sent.bytes().size());
        CHECK(f.counter("sluice.frames.frames") == r.stats.frames);
        CHECK(f.counter("sluice.frames.receives") == r.stats.receives);
      }
    }
  }
}

TEST_CASE("a steady stream is predicted by itself: few receives, next to nothing copied") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    engine_fixture f(backend,
                     {{"sluice.memory.block_bytes", "128K"}, {"sluice.memory.arena_bytes", "8M"}});
    framed_stream sent(3);
    for (int i = 0; i < 500; ++i) sent.piece(16'384);
    stream_pair pair = stream_pair::tcp();
    std::jthread peer([fd = pair.take_theirs(), &sent] {
      support::send_all(fd, sent.bytes());
      ::close(fd);
    });
    const reading r = f.run(read_all(*f, adopt(*f, pair.take_ours()), frame_mode::automatic));
    CHECK(r.end == 0);
    CHECK(r.frames == sent.frames());
    CHECK(r.stats.mode == frame_mode::scatter);
    CHECK(r.stats.mispredicted == 0);
    CHECK(r.stats.copied_bytes < 10 * 16'384);  // before the first prediction
    CHECK(r.stats.frames == 500);
  }
}

TEST_CASE("the end of the stream inside a head and inside a payload is an error, after the rest") {
  for (const std::string& backend : backends()) {
    for (const frame_mode mode : support::frame_modes(backend)) {
      framed_stream whole(4);
      for (int i = 0; i < 4; ++i) whole.piece(5000);
      framed_stream sent(4);
      for (int i = 0; i < 5; ++i) sent.piece(5000);
      for (const std::size_t more : {1U, 12U, 13U, 14U, 5012U}) {
        CAPTURE(more);
        engine_fixture f(backend);
        stream_pair pair = stream_pair::tcp();
        support::send_all(pair.theirs(), sent.bytes().first(whole.bytes().size() + more));
        pair.close_theirs();
        const reading r = f.run(read_all(*f, adopt(*f, pair.take_ours()), mode));
        CHECK(r.end == code::end_of_stream);
        CHECK(r.frames == whole.frames());
        CHECK(r.as_promised);
      }
    }
  }
}

TEST_CASE("a bad frame and a reset are told after the frames before them, and told again") {
  for (const std::string& backend : backends()) {
    for (const frame_mode mode : support::frame_modes(backend)) {
      engine_fixture f(backend);
      stream_pair pair = stream_pair::tcp();
      framed_stream sent(5);
      sent.piece(5000);
      sent.have();
      sent.raw(std::vector<std::byte>(20, std::byte{0xff}));
      support::send_all(pair.theirs(), sent.bytes());
      stream from = adopt(*f, pair.take_ours());
      frame_receiver frames(*f, from, support::framed::protocol(), {mode});
      CHECK(f.run(next_of(frames))->kind == support::framed::piece);
      CHECK(f.run(next_of(frames))->kind == support::framed::have);
      CHECK(f.run(next_of(frames)).error().code == code::bad_frame);
      CHECK(f.run(next_of(frames)).error().code == code::bad_frame);

      stream_pair second = stream_pair::tcp();
      stream reset = adopt(*f, second.take_ours());
      frame_receiver other(*f, reset, support::framed::protocol(), {mode});
      support::send_all(second.theirs(), sent.bytes().first(100));
      CHECK(f.run(next_of(other, 5ms)).error().code == ETIMEDOUT);
      support::reset_at_close(second.theirs());
      second.close_theirs();
      CHECK(f.run(next_of(other)).error().code == ECONNRESET);
      CHECK(f.run(next_of(other)).error().code == ECONNRESET);
    }
  }
}

TEST_CASE("a protocol out of its ranges is refused by every call") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream from = adopt(*f, pair.take_ours());
    const frame_protocol good = support::framed::protocol();
    std::vector<frame_protocol> bad(6, good);
    bad[0].parse = nullptr;
    bad[1].head_bytes_min = 0;
    bad[2].head_bytes_min = 14;
    bad[3].head_bytes_max = 257;
    bad[4].alignment = 48;
    bad[5].alignment = 8192;
    for (const frame_protocol& p : bad) {
      frame_receiver frames(*f, from, p);
      CHECK(f.run(next_of(frames)).error().code == EINVAL);
      CHECK(f.run(next_of(frames)).error().code == EINVAL);
    }
  }
}

TEST_CASE("a head of no bytes or over the most is a bad frame, a block of no bytes is a frame") {
  for (const std::string& backend : backends()) {
    for (const frame_mode mode : support::frame_modes(backend)) {
      for (const std::uint32_t head_bytes : {0U, 14U, 5U}) {
        CAPTURE(head_bytes);
        engine_fixture f(backend);
        stream_pair pair = stream_pair::tcp();
        stream from = adopt(*f, pair.take_ours());
        frame_shape said{.head_bytes = head_bytes, .kind = 7};
        frame_protocol odd = support::framed::protocol();
        odd.context = &said;
        odd.parse = [](void* context, std::span<const std::byte>) noexcept {
          return *static_cast<const frame_shape*>(context);
        };
        frame_receiver frames(*f, from, odd, {mode});
        support::send_all(pair.theirs(), support::pattern(2, 0, 20));
        for (int i = 0; i < 3; ++i) {
          const result<frame> got = f.run(next_of(frames));
          REQUIRE(got.has_value() == (head_bytes == 5));
          if (!got) CHECK(got.error().code == code::bad_frame);
          if (!got) continue;
          CHECK(support::same_bytes(got->head, support::pattern(2, 5 * i, 5)));
          CHECK((got->payload.empty() && got->last_part() && !got->block && got->kind == 7));
        }
      }
    }
  }
}

TEST_CASE("a timeout loses nothing, wherever in a frame it comes") {
  for (const std::string& backend : backends()) {
    for (const frame_mode mode : support::frame_modes(backend)) {
      engine_fixture f(backend);
      stream_pair pair = stream_pair::tcp();
      stream from = adopt(*f, pair.take_ours());
      framed_stream sent(6);
      sent.piece(5000);
      sent.piece(5000);
      sent.note(100);
      frame_keeper seen(0);
      frame_receiver frames(*f, from, support::framed::protocol(), {mode});
      std::size_t put = 0;
      for (const std::size_t until : {3UL, 12UL, 14UL, 4000UL, 5015UL, 9000UL, 10'060UL}) {
        support::send_all(pair.theirs(), sent.bytes().subspan(put, until - put));
        put = until;
        while (true) {
          result<frame> got = f.run(next_of(frames, 3ms));
          if (!got) CHECK(got.error().code == ETIMEDOUT);
          if (!got) break;
          CHECK(seen.take(std::move(*got)));
        }
      }
      support::send_all(pair.theirs(), sent.bytes().subspan(put));
      while (seen.frames.size() < 3) CHECK(seen.take(*f.run(next_of(frames))));
      CHECK(seen.frames == sent.frames());
    }
  }
}

TEST_CASE("a cancelled wait ends, and another task goes on where it stopped") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream from = adopt(*f, pair.take_ours());
    framed_stream sent(7);
    sent.piece(5000);
    frame_receiver frames(*f, from, support::framed::protocol());
    support::send_all(pair.theirs(), sent.bytes().first(2000));
    int code = 0;
    const task_handle waiting =
        f->start(next_of(frames), [&code](result<frame> got) { code = got.error().code; });
    for (int i = 0; i < 3; ++i) f->run_once(1ms);
    f->cancel(waiting);
    f->run();
    CHECK(code == ECANCELED);
    support::send_all(pair.theirs(), sent.bytes().subspan(2000));
    frame_keeper seen(0);
    CHECK(seen.take(*f.run(next_of(frames))));
    CHECK(seen.frames == sent.frames());
  }
}

TEST_CASE("a silent peer's receiver holds no block") {
  for (const std::string& backend : backends()) {
    for (const frame_mode mode : support::frame_modes(backend)) {
      engine_fixture f(backend, {{"sluice.frames.idle_ms", "2"}});
      stream_pair pair = stream_pair::tcp();
      stream from = adopt(*f, pair.take_ours());
      framed_stream sent(8);
      for (int i = 0; i < 4; ++i) sent.piece(5000);
      frame_receiver frames(*f, from, support::framed::protocol(), {mode});
      std::vector<frame> taken;
      for (int round = 0; round < 2; ++round) {
        support::send_all(pair.theirs(), sent.bytes());
        for (int i = 0; i < 4; ++i) taken.push_back(std::move(*f.run(next_of(frames))));
        taken.clear();
        CHECK(f.run(next_of(frames, 30ms)).error().code == ETIMEDOUT);
        // In mode multishot all receivers of the engine have some together.
        CHECK(f.counter("sluice.memory.leases_in_use") == (mode == frame_mode::multishot ? 3 : 0));
      }
      CHECK(f.counter("sluice.frames.released") > 0);
    }
  }
}

TEST_CASE("more receivers than blocks wait for one another, and all get through") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    for (const frame_mode mode : support::frame_modes(backend)) {
      CAPTURE(static_cast<int>(mode));
      // Three blocks, four heads.
      engine_fixture f(backend,
                       {{"sluice.memory.block_bytes", "256K"}, {"sluice.memory.head_blocks", "4"}});
      constexpr std::size_t streams = 12;
      std::vector<framed_stream> sent;
      for (std::size_t i = 0; i < streams; ++i) {
        sent.emplace_back(i + 1);
        sent.back().anything(60);
      }
      std::vector<std::jthread> peers;
      std::size_t right = 0;
      for (std::size_t i = 0; i < streams; ++i) {
        stream_pair pair = stream_pair::tcp();
        peers.emplace_back([fd = pair.take_theirs(), &from = sent[i], i] {
          send_in_pieces(fd, from.bytes(), i);
          ::close(fd);
        });
        f->start(read_and_write(*f, adopt(*f, pair.take_ours()), mode),
                 [&right, &from = sent[i]](const reading& r) {
                   right += r.end == 0 && r.as_promised && r.frames == from.frames() ? 1U : 0U;
                 });
      }
      const auto limit = std::chrono::steady_clock::now() + 20s;
      while (f->task_count() > 0 && std::chrono::steady_clock::now() < limit) f->run_once(20ms);
      CHECK(f->task_count() == 0);
      CHECK(right == streams);
    }
  }
}

TEST_CASE("frames outlive their receiver, and it may be moved between frames") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream from = adopt(*f, pair.take_ours());
    framed_stream sent(9);
    sent.piece(5000);
    sent.piece(6000);
    support::send_all(pair.theirs(), sent.bytes());
    frame first;
    frame second;
    {
      frame_receiver frames(*f, from, support::framed::protocol());
      first = std::move(*f.run(next_of(frames)));
      frame_receiver moved = std::move(frames);
      second = std::move(*f.run(next_of(moved)));
    }
    CHECK(support::same_bytes(first.payload, sent.frames()[0].payload));
    CHECK(support::same_bytes(second.payload, sent.frames()[1].payload));
  }
}
