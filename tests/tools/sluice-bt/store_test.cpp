#include "store.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "torrent_world.hpp"

using bt_test::world;
using sluice::result;
using sluice::task;

namespace {

// Posts the blocks of the torrent from the last to the first, reads it whole before it is stored.
task<bool> write_backwards(world& w) {
  const std::uint64_t total = w.info.layout().total_bytes();
  for (std::uint64_t end = total; end > 0;) {
    const std::uint64_t begin = (end - 1) / bt::block_bytes * bt::block_bytes;
    if (!co_await w.post(begin, end - begin)) co_return false;
    end = begin;
  }
  std::vector<std::byte> seen(total);
  const result<void> read = co_await w.store->read(seen, 0);
  if (!read || !support::same_bytes(seen, w.content)) co_return false;
  const result<void> done = co_await w.store->commit();
  co_return done.has_value();
}

}  // namespace

TEST_CASE("blocks that cross files are readable at once, and on the disk after a commit") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    REQUIRE(w.open());
    CHECK_FALSE(w.store->found_content());
    CHECK(w.engine.run(write_backwards(w)));
    w.store.reset();
    w.engine->run();
    CHECK(w.files_hold_the_content());
    REQUIRE(w.open());
    CHECK(w.store->found_content());
  }
}

TEST_CASE("a file longer than the torrent says is refused and left alone") {
  world w("pool");
  std::filesystem::create_directories(w.dir.at("out/t/sub"));
  w.dir.write("out/t/sub/b", std::string(90'001, 'x'));
  CHECK_FALSE(w.open());
  CHECK(w.problem.contains("is there with 90001 bytes"));
  CHECK(std::filesystem::file_size(w.dir.at("out/t/sub/b")) == 90'001);
}

TEST_CASE("links do not lead out of the directory") {
  world w("pool");
  std::filesystem::create_directories(w.dir.at("out"));
  std::filesystem::create_directories(w.dir.at("elsewhere"));
  std::filesystem::create_directory_symlink(w.dir.at("elsewhere"), w.dir.at("out/t"));
  CHECK_FALSE(w.open());
  CHECK(std::filesystem::is_empty(w.dir.at("elsewhere")));
  std::filesystem::remove(w.dir.at("out/t"));
  std::filesystem::create_directories(w.dir.at("out/t"));
  std::filesystem::create_symlink(w.dir.at("elsewhere/x"), w.dir.at("out/t/a"));
  CHECK_FALSE(w.open());
  CHECK(std::filesystem::is_empty(w.dir.at("elsewhere")));
}
