// What a receiver holds while its peer says nothing, and that nothing is lost then.
#include <doctest/doctest.h>

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
using support::stream_pair;

}  // namespace

TEST_CASE("silent streams keep no small block from the ones that speak") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    // Eight heads; nobody is silent for long enough to give one back.
    engine_fixture f(backend, {{"sluice.frames.idle_ms", "3600000"}});
    constexpr std::size_t streams = 24;
    framed_stream sent(11);
    sent.note(100);
    std::vector<stream_pair> pairs;
    std::vector<stream> ours;
    for (std::size_t i = 0; i < streams; ++i) {
      pairs.push_back(stream_pair::tcp());
      ours.push_back(adopt(*f, pairs.back().take_ours()));
    }
    std::vector<frame_receiver> receivers;
    for (stream& from : ours) receivers.emplace_back(*f, from, support::framed::protocol());
    std::size_t told = 0;
    std::size_t right = 0;
    const auto wait_for_one = [&](frame_receiver& frames) {
      f->start(next_of(frames), [&](result<frame> got) {
        ++told;
        right += got && *got && support::same_bytes(got->payload, sent.frames()[0].payload) ? 1 : 0;
      });
    };
    for (frame_receiver& frames : receivers) wait_for_one(frames);
    for (int i = 0; i < 5; ++i) f->run_once(1ms);
    // The last first: it found no block when it began to wait.
    std::size_t spoken = 0;
    const auto limit = std::chrono::steady_clock::now() + 5s;
    for (; spoken < 2 * streams; ++spoken) {
      const std::size_t i = streams - 1 - spoken % streams;
      support::send_all(pairs[i].theirs(), sent.bytes());
      while (told == spoken && std::chrono::steady_clock::now() < limit) f->run_once(5ms);
      if (told == spoken) break;
      wait_for_one(receivers[i]);
    }
    CHECK(spoken == 2 * streams);
    CHECK(right == spoken);
    CHECK(f.counter("sluice.memory.leases_waited") == 0);
    f->cancel_all();
    f->run();
    receivers.clear();
  }
}

TEST_CASE("who speaks rarely is waited for without memory, until it speaks often") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    engine_fixture f(backend, {{"sluice.frames.idle_ms", "100"}});
    stream_pair pair = stream_pair::tcp();
    stream from = adopt(*f, pair.take_ours());
    framed_stream sent(12);
    sent.note(100);
    frame_receiver frames(*f, from, support::framed::protocol());
    CHECK(f.run(next_of(frames, 150ms)).error().code == ETIMEDOUT);
    CHECK(f.counter("sluice.frames.released") == 1);
    // Begins to wait; says how many blocks are held meanwhile.
    bool told = false;
    const auto held_while_waiting = [&] {
      told = false;
      f->start(next_of(frames), [&told](result<frame> got) { told = got && *got; });
      for (int i = 0; i < 3; ++i) f->run_once(0ms);
      return f.counter("sluice.memory.leases_in_use");
    };
    const auto speak = [&] {
      support::send_all(pair.theirs(), sent.bytes());
      f->run();
      return told;
    };
    CHECK(held_while_waiting() == 0);
    std::this_thread::sleep_for(110ms);
    CHECK(speak());
    CHECK(held_while_waiting() == 0);
    CHECK(f.counter("sluice.frames.released") == 1);
    CHECK(speak());
    std::uint64_t held = 0;
    for (int i = 0; i < 50 && held == 0; ++i) {
      held = held_while_waiting();
      CHECK(speak());
    }
    CHECK(held == 1);
  }
}

TEST_CASE("pauses between and inside small messages and payloads lose nothing") {
  for (const std::string& backend : backends()) {
    CAPTURE(backend);
    for (const frame_mode mode : support::frame_modes(backend)) {
      CAPTURE(static_cast<int>(mode));
      engine_fixture f(backend, {{"sluice.frames.idle_ms", "1"}});
      framed_stream sent(13);
      for (std::size_t i = 0; i < 4; ++i) {
        sent.note(20 + i);
        sent.have();
        if (i == 1) sent.piece(100);
      }
      stream_pair pair = stream_pair::tcp();
      std::jthread peer([fd = pair.take_theirs(), &sent] {
        constexpr std::size_t parts = 16;
        for (std::size_t i = 0; i < parts; ++i) {
          const std::size_t from = sent.bytes().size() * i / parts;
          const std::size_t to = sent.bytes().size() * (i + 1) / parts;
          support::send_all(fd, sent.bytes().subspan(from, to - from));
          std::this_thread::sleep_for(3ms);
        }
        ::close(fd);
      });
      stream from = adopt(*f, pair.take_ours());
      frame_receiver frames(*f, from, support::framed::protocol(), {mode});
      frame_keeper seen(0);
      result<frame> got = f.run(next_of(frames));
      for (; got && *got; got = f.run(next_of(frames))) CHECK(seen.take(std::move(*got)));
      CHECK(got.has_value());  // the end, between two frames
      CHECK(seen.frames == sent.frames());
      CHECK(f.counter("sluice.frames.released") > 0);
    }
  }
}
