// Frames go from the socket to the disk by the memory they came in: frame_receiver and
// block_writer.
#include <doctest/doctest.h>

#include <thread>
#include <utility>

#include "sluice/block_writer.hpp"
#include "sluice/file.hpp"
#include "sluice/frames.hpp"
#include "support/engine_fixture.hpp"
#include "support/framed_stream.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;

constexpr std::uint64_t payload_bytes = 16 << 10;
constexpr std::uint64_t payloads = 512;

struct outcome {
  bool stored = false;
  block_writer_stats written;
  frame_stats received;
};

task<outcome> store_all(engine& e, stream from, file& into) {
  outcome o;
  const result<void> reserved = co_await into.reserve(payloads * payload_bytes);
  result<block_writer> writer = co_await block_writer::open(into);
  if (!writer) co_return o;
  frame_receiver frames(e, from, support::framed::protocol());
  for (std::uint64_t at = 0; at < payloads * payload_bytes; at += payload_bytes) {
    result<frame> got = co_await frames.next();
    if (!got || !*got) co_return o;
    while (!writer->has_room()) {
      const result<void> room = co_await writer->room();
      if (!room) co_return o;
    }
    if (!writer->post(std::move(got->block), got->payload, at)) co_return o;
  }
  const result<void> done = co_await writer->flush();
  co_return outcome{reserved && done, writer->stats(), frames.stats()};
}

}  // namespace

TEST_CASE("frames are stored by few large direct writes from the memory they were received into") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    const support::temp_dir dir;
    support::framed_stream sent(21);
    for (std::uint64_t i = 0; i < payloads; ++i) sent.piece(payload_bytes);
    {
      support::engine_fixture f(backend, {{"sluice.memory.block_bytes", "512K"},
                                          {"sluice.memory.arena_bytes", "32M"},
                                          {"sluice.write.delay_us", "5000000"}});
      support::stream_pair pair = support::stream_pair::tcp();
      std::jthread peer([fd = pair.take_theirs(), &sent] {
        support::send_all(fd, sent.bytes());
        ::close(fd);
      });
      result<stream> from = stream::adopt(*f, pair.take_ours());
      REQUIRE(from);
      result<file> into = file::adopt(*f, dir.open("f"));
      REQUIRE(into);
      const outcome o = f.run(store_all(*f, *std::move(from), *into));
      REQUIRE(o.stored);
      CHECK(o.written.bytes == payloads * payload_bytes);
      CHECK(o.written.bytes / o.written.ops >= 256 << 10);
      if (o.written.direct_bytes > 0) CHECK(o.written.direct_bytes == o.written.bytes);
      CHECK(o.received.mode == frame_mode::scatter);
      CHECK(o.received.copied_bytes < 16 * payload_bytes);  // before the first prediction
      *into = {};
      f->run();
    }
    const std::string seen = dir.read("f");
    REQUIRE(seen.size() == payloads * payload_bytes);
    for (std::uint64_t i = 0; i < payloads; ++i) {
      const auto bytes = std::as_bytes(std::span(seen)).subspan(i * payload_bytes, payload_bytes);
      CHECK(support::same_bytes(bytes, sent.frames()[i].payload));
    }
  }
}
