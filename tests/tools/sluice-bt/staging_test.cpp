#include "staging.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "sluice/file.hpp"
#include "support/engine_fixture.hpp"
#include "support/seeded_data.hpp"
#include "support/temp_dir.hpp"

using sluice::result;
using sluice::task;

namespace {

constexpr std::uint64_t file_bytes = 300'001;  // windows are of 64 KiB here
constexpr std::uint64_t shift = 777;           // where the first whole block begins

struct world {
  world(const std::string& backend, std::size_t windows_max)
      : engine(backend), staged(*engine, windows_max) {
    result<sluice::file> made = sluice::file::adopt(*engine, dir.open("f"));
    REQUIRE(made);
    file = std::move(*made);
    result<sluice::block_writer> opened = engine.run(open(file));
    REQUIRE(opened);
    writer.emplace(std::move(*opened));
    to = {&*writer, file_bytes};
  }
  static task<result<sluice::block_writer>> open(sluice::file& of) {
    co_return co_await sluice::block_writer::open(of);
  }
  task<bool> put(std::uint64_t begin, std::uint64_t end) {
    const std::span<const std::byte> bytes = std::span(content).subspan(begin, end - begin);
    const result<void> done = co_await staged.put(to, bytes, begin);
    co_return done.has_value();
  }
  task<bool> commit() {
    const result<void> flushed = co_await staged.flush(to, 0, file_bytes);
    if (!flushed) co_return false;
    const result<void> done = co_await writer->commit();
    co_return done.has_value();
  }
  [[nodiscard]] bool whole() {
    const std::string seen = dir.read("f");
    return support::same_bytes(std::as_bytes(std::span(seen)), content);
  }

  support::temp_dir dir;
  support::engine_fixture engine;
  bt::staging staged;
  sluice::file file;
  std::optional<sluice::block_writer> writer;
  bt::staging::target to;
  std::vector<std::byte> content = support::pattern(5, 0, file_bytes);
};

// Blocks of 16 KiB that begin at `shift`, what is before it, and what is left.
std::vector<std::pair<std::uint64_t, std::uint64_t>> blocks() {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> all{{0, shift}};
  for (std::uint64_t at = shift; at < file_bytes; at += 16384)
    all.emplace_back(at, std::min<std::uint64_t>(at + 16384, file_bytes));
  return all;
}

}  // namespace

TEST_CASE("blocks in order go around the page cache, but for the end of the file") {
  for (const std::string& backend : support::backends()) {
    world w(backend, 4);
    for (const auto& [begin, end] : blocks()) CHECK(w.engine.run(w.put(begin, end)));
    CHECK(w.writer->stats().blocks == 6);  // five windows, the last one in two parts
    CHECK(w.engine.run(w.commit()));
    CHECK(w.whole());
    const sluice::block_writer_stats stats = w.writer->stats();
    if (stats.direct_bytes > 0) CHECK(stats.direct_bytes == file_bytes / 4096 * 4096);
    w.writer.reset();
    w.file = {};
    w.engine->run();
  }
}

TEST_CASE("blocks in any order, with few windows, make the same file") {
  for (std::uint32_t seed = 1; seed <= 10; ++seed) {
    world w("pool", 1 + seed % 3);
    auto order = blocks();
    std::ranges::shuffle(order, std::mt19937(seed));
    for (const auto& [begin, end] : order) CHECK(w.engine.run(w.put(begin, end)));
    CHECK(w.engine.run(w.commit()));
    CHECK_MESSAGE(w.whole(), "seed ", seed);
    w.writer.reset();
    w.file = {};
    w.engine->run();
  }
}

TEST_CASE("many who put at the same time, with one window, lose nothing") {
  world w("pool", 1);
  std::size_t done = 0;
  for (const auto& [begin, end] : blocks())
    w.engine->start(w.put(begin, end), [&done](bool well) { done += well ? 1 : 0; });
  w.engine->run();
  CHECK(done == blocks().size());
  CHECK(w.engine.run(w.commit()));
  CHECK(w.whole());
  w.writer.reset();
  w.file = {};
  w.engine->run();
}

TEST_CASE("what is put again replaces what was there, also behind a flush") {
  world w("pool", 4);
  for (std::byte& b : w.content) b ^= std::byte{1};
  CHECK(w.engine.run(w.put(10'000, 30'000)));
  for (std::byte& b : w.content) b ^= std::byte{1};
  CHECK(w.engine.run(w.put(15'000, 25'000)));
  CHECK(w.engine.run(w.commit()));
  for (const auto& [begin, end] : blocks()) CHECK(w.engine.run(w.put(begin, end)));
  CHECK(w.engine.run(w.commit()));
  CHECK(w.whole());
  w.writer.reset();
  w.file = {};
  w.engine->run();
}
