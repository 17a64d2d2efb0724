#include "transfer/frame_assembler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/loop.hpp"
#include "memory/buffer_pool.hpp"
#include "support/framed_stream.hpp"
#include "support/scripted_backend.hpp"

namespace {

using namespace sluice;
using support::frame_keeper;
using support::framed_stream;
using support::seeded_random;

constexpr std::uint32_t block_bytes = 65'536;
constexpr std::uint32_t small_bytes = 4096;

struct free_memory {
  void operator()(void* at) const { std::free(at); }
};

// Blocks and small buffers without an engine.
struct pools {
  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  std::unique_ptr<void, free_memory> memory{std::aligned_alloc(4096, 8 * block_bytes)};
  std::unique_ptr<void, free_memory> small_memory{std::aligned_alloc(4096, 2 * small_bytes)};
  buffer_class blocks{
      {static_cast<std::byte*>(memory.get()), 8 * block_bytes}, block_bytes, on, counters.memory};
  buffer_class buffers{{static_cast<std::byte*>(small_memory.get()), 2 * small_bytes},
                       small_bytes,
                       on,
                       counters.memory};
};

// Plays the receiver: gives memory, and fills plans from `bytes`, each with at most what `cut`
// says.
class feeder {
 public:
  feeder(pools& memory, frame_mode mode, std::span<const std::byte> bytes,
         tuning::frames_knobs knobs = {})
      : memory_(memory),
        bytes_(bytes),
        assembler_(support::framed::protocol(), knobs, mode, block_bytes) {}

  // Until the bytes are used up or a fault; false when a promise was broken.
  template <class Cut>
  bool run(frame_keeper& into, Cut cut) {
    while (true) {
      const frame_assembler::step found = assembler_.next();
      if (found == frame_assembler::step::failed) return true;
      if (found == frame_assembler::step::frame) {
        if (!into.take(assembler_.take())) return false;
        continue;
      }
      if (found == frame_assembler::step::block) {
        if (!give_block()) return false;
        continue;
      }
      if (fed_ == bytes_.size()) return true;
      if (!feed(cut(fed_))) return false;
    }
  }
  frame_assembler& assembler() { return assembler_; }

 private:
  bool give_block() {
    lease block = memory_.blocks.try_take();
    if (!block) return false;  // the receiver kept blocks it has no use for
    assembler_.give_block(std::move(block));
    return true;
  }
  // What came before lies in memory that is somebody else's by now.
  bool feed_chunk(std::size_t most) {
    assembler_.keep();
    std::ranges::fill(chunk_, std::byte{0xdd});
    const std::size_t count = std::min({chunk_.size(), most, bytes_.size() - fed_});
    std::memcpy(chunk_.data(), bytes_.data() + fed_, count);
    assembler_.feed(std::span(chunk_).first(count));
    fed_ += count;
    return count > 0;
  }
  bool feed(std::size_t most) {
    if (assembler_.multishot()) return feed_chunk(most);
    switch (assembler_.lacking()) {
      case frame_assembler::memory::block: return give_block();
      case frame_assembler::memory::buffer:
        assembler_.give_buffer(memory_.buffers.try_take());
        return true;
      case frame_assembler::memory::larger_buffer:
        assembler_.give_buffer(memory_.blocks.try_take());
        break;
      case frame_assembler::memory::nothing: break;
    }
    std::size_t filled = 0;
    for (const iovec& piece : assembler_.plan().pieces) {
      const std::size_t count = std::min({piece.iov_len, most, bytes_.size() - fed_});
      std::memcpy(piece.iov_base, bytes_.data() + fed_, count);
      // What is not received may be written to by nobody, but is by the test: it is the
      // receiver's alone.
      std::memset(static_cast<std::byte*>(piece.iov_base) + count, 0xdd, piece.iov_len - count);
      fed_ += count;
      filled += count;
      most -= count;
    }
    assembler_.received(filled);
    return filled > 0;
  }

  pools& memory_;
  std::span<const std::byte> bytes_;
  std::size_t fed_ = 0;
  std::vector<std::byte> chunk_ = std::vector<std::byte>(5000);
  frame_assembler assembler_;
};

constexpr frame_mode modes[] = {frame_mode::scatter, frame_mode::contiguous, frame_mode::two_step,
                                frame_mode::multishot, frame_mode::automatic};

template <class Cut>
void check_stream(const framed_stream& stream, frame_mode mode, Cut cut,
                  const tuning::frames_knobs& knobs = {}) {
  CAPTURE(static_cast<int>(mode));
  pools memory;
  frame_keeper seen(20);
  feeder f(memory, mode, stream.bytes(), knobs);
  REQUIRE(f.run(seen, cut));
  CHECK(seen.let_go_of_all());
  REQUIRE(seen.frames.size() == stream.frames().size());
  CHECK(seen.frames == stream.frames());
  CHECK_FALSE(f.assembler().inside_frame());
}

}  // namespace

TEST_CASE("whatever is received at a time, the frames are the same in every mode") {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    CAPTURE(seed);
    framed_stream stream(seed);
    stream.anything(80);
    for (const frame_mode mode : modes) {
      seeded_random random(seed * 7);
      check_stream(stream, mode, [](std::size_t) { return std::size_t{1} << 30U; });
      check_stream(stream, mode, [](std::size_t) { return std::size_t{1448}; });
      check_stream(stream, mode, [&random](std::size_t) { return 1 + random.below(40'000); });
      check_stream(stream, mode, [&random](std::size_t) {
        return random.one_in(3) ? 1 + random.below(100'000) : 1 + random.below(30);
      });
    }
  }
}

TEST_CASE("a stream cut in two at any place gives the same frames in every mode") {
  framed_stream stream(5);
  for (int i = 0; i < 3; ++i) stream.piece(300);
  stream.have();
  stream.piece(300);
  stream.note(20);
  stream.piece(299);
  stream.keep_alive();
  stream.piece(5000);
  stream.piece(300);
  stream.note(5000);
  stream.piece(300);
  tuning::frames_knobs small;  // so that auto scatters them, and stops and begins again
  small.scatter_min_bytes = 1;
  for (const frame_mode mode : modes) {
    for (std::size_t at = 1; at < stream.bytes().size(); ++at) {
      CAPTURE(at);
      check_stream(
          stream, mode,
          [at](std::size_t fed) { return fed < at ? at - fed : std::size_t{1} << 30U; }, small);
    }
  }
}

TEST_CASE("a stream that comes byte by byte gives the same frames in every mode") {
  framed_stream stream(6);
  stream.anything(20);
  for (const frame_mode mode : modes) {
    check_stream(stream, mode, [](std::size_t) { return std::size_t{1}; });
  }
}

TEST_CASE("a right prediction copies nothing and needs one receive for many payloads") {
  framed_stream stream(7);
  for (int i = 0; i < 100; ++i) stream.piece(16'384);
  pools memory;
  frame_keeper seen(0);
  feeder f(memory, frame_mode::scatter, stream.bytes());
  REQUIRE(f.run(seen, [](std::size_t) { return std::size_t{1} << 30U; }));
  CHECK(seen.frames == stream.frames());
  CHECK(f.assembler().stats().copied_bytes == 0);
  CHECK(f.assembler().stats().mispredicted == 0);
  CHECK(f.assembler().stats().receives < 35);  // four payloads fill a block
}

TEST_CASE("two steps copy nothing and need two receives for each payload") {
  framed_stream stream(8);
  for (int i = 0; i < 20; ++i) stream.piece(16'384);
  pools memory;
  frame_keeper seen(0);
  feeder f(memory, frame_mode::two_step, stream.bytes());
  REQUIRE(f.run(seen, [](std::size_t) { return std::size_t{1} << 30U; }));
  CHECK(f.assembler().stats().copied_bytes == 0);
  CHECK(f.assembler().stats().receives == 41);  // the first head, not predicted yet, took two
}

TEST_CASE("payloads that follow one another share a block") {
  framed_stream stream(9);
  for (int i = 0; i < 8; ++i) stream.piece(16'384);
  for (const frame_mode mode : modes) {
    CAPTURE(static_cast<int>(mode));
    pools memory;
    frame_keeper seen(100);
    feeder f(memory, mode, stream.bytes());
    REQUIRE(f.run(seen, [](std::size_t) { return std::size_t{1} << 30U; }));
    f.assembler().release();
    CHECK(memory.blocks.blocks() - memory.blocks.free_blocks() == 2);
  }
}

TEST_CASE("a wrong prediction is repaired, counted, and given up when it happens again and again") {
  framed_stream stream(10);
  seeded_random random(10);
  for (int i = 0; i < 200; ++i) {
    stream.piece(8192);
    stream.piece(8192);
    stream.piece(5000 + random.below(8000));
  }
  pools memory;
  frame_keeper seen(3);
  feeder f(memory, frame_mode::automatic, stream.bytes(), {.misses_max = 2, .retry_frames = 50});
  REQUIRE(f.run(seen, [](std::size_t) { return std::size_t{1} << 30U; }));
  CHECK(seen.frames == stream.frames());
  CHECK(f.assembler().stats().mispredicted >= 2);
  CHECK(f.assembler().stats().fallbacks >= 2);
  CHECK(f.assembler().stats().fallbacks <= 600 / 50 + 1);
}

TEST_CASE("a payload longer than a block comes in parts") {
  framed_stream stream(11);
  stream.piece(3 * block_bytes + 5000);
  stream.piece(16'384);
  stream.piece(2 * block_bytes);
  for (const frame_mode mode : modes) {
    check_stream(stream, mode, [](std::size_t) { return std::size_t{30'000}; });
    check_stream(stream, mode, [](std::size_t) { return std::size_t{1} << 30U; });
  }
}

TEST_CASE("frames before a bad one are given first") {
  struct bad {
    const char* what;
    std::vector<int> head;
  };
  for (const bad& b :
       {bad{"a type that is none", {0, 0, 0, 9, 99, 0, 0, 0, 0}},
        bad{"a length over the limit", {0, 0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}},
        bad{"a negative length", {0xff, 0xff, 0xff, 0xff, 5}},
        bad{"a payload of less than nothing", {0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}) {
    CAPTURE(b.what);
    framed_stream stream(12);
    stream.piece(16'384);
    stream.piece(16'384);
    stream.piece(16'384);
    stream.have();
    std::vector<std::byte> head;
    for (const int value : b.head) head.push_back(static_cast<std::byte>(value));
    stream.raw(head);
    stream.raw(support::pattern(1, 0, 20'000));
    for (const frame_mode mode : modes) {
      for (const std::size_t most : {std::size_t{1000}, std::size_t{1} << 30U}) {
        pools memory;
        frame_keeper seen(10);
        feeder f(memory, mode, stream.bytes());
        REQUIRE(f.run(seen, [most](std::size_t) { return most; }));
        CHECK(seen.frames == stream.frames());
        CHECK(f.assembler().failure().code == code::bad_frame);
        CHECK(f.assembler().next() == frame_assembler::step::failed);  // for good
      }
    }
  }
}

TEST_CASE("a length that no memory could hold is no view, whatever the protocol allows") {
  pools memory;
  frame_protocol endless = support::framed::protocol();
  endless.payload_bytes_max = ~std::uint64_t{0};
  endless.parse = [](void*, std::span<const std::byte>) noexcept {
    return frame_shape{
        .head_bytes = 4, .payload_bytes = ~std::uint64_t{0} - 2, .place = frame_place::view};
  };
  frame_assembler a(endless, {}, frame_mode::two_step, block_bytes);
  CHECK(a.next() == frame_assembler::step::bytes);
  CHECK(a.lacking() == frame_assembler::memory::nothing);
  CHECK(a.plan().pieces.size() == 1);
  a.received(4);
  CHECK(a.next() == frame_assembler::step::block);
}

// Forced scatter predicts what came last, however long ago that was.
TEST_CASE(
    "a stream that falls silent of payloads asks for no block, and then for one, in every mode") {
  framed_stream stream(16);
  for (int i = 0; i < 3; ++i) stream.piece(5000);
  for (int i = 0; i < 100; ++i) stream.have();
  for (int i = 0; i < 3; ++i) stream.piece(5000);
  for (const frame_mode mode : modes) {
    check_stream(stream, mode, [](std::size_t) { return std::size_t{100}; });
  }
}

TEST_CASE("an empty pool of blocks is asked only when a payload is there to be placed") {
  framed_stream stream(13);
  for (int i = 0; i < 200; ++i) stream.have();
  stream.note(2000);
  pools memory;
  frame_keeper seen(0);
  feeder f(memory, frame_mode::automatic, stream.bytes());
  REQUIRE(f.run(seen, [](std::size_t) { return std::size_t{500}; }));
  CHECK(seen.frames == stream.frames());
  CHECK(memory.blocks.free_blocks() == memory.blocks.blocks());
  f.assembler().release();
  CHECK(memory.buffers.free_blocks() == memory.buffers.blocks());
}

TEST_CASE("memory given back between frames and inside them loses nothing") {
  framed_stream stream(14);
  stream.anything(60);
  for (const frame_mode mode : modes) {
    CAPTURE(static_cast<int>(mode));
    pools memory;
    frame_keeper seen(5);
    feeder f(memory, mode, stream.bytes());
    std::size_t last = 0;
    REQUIRE(f.run(seen, [&f, &last](std::size_t fed) {
      if (fed != last) f.assembler().release();
      last = fed;
      return std::size_t{3000};
    }));
    CHECK(seen.frames == stream.frames());
  }
}
