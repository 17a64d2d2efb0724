#include "store.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
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

namespace {

// Whether the range, read into the part of a block that begins `at`, is the content's.
task<bool> block_is_right(world& w, std::uint64_t offset, std::uint64_t bytes, std::uint32_t at) {
  sluice::lease_await leasing = w.engine->acquire_block();
  result<sluice::lease> leased = co_await leasing;
  if (!leased) co_return false;
  const sluice::lease place = leased->part(at, leased->size() - at);
  const bt::store::found_bytes got = co_await w.store->read_block(place, offset, bytes);
  if (!got) co_return false;
  const std::byte* const end = leased->data() + leased->size();
  if (got->data() < place.data() || got->data() + got->size() > end) co_return false;
  co_return support::same_bytes(*got, std::span(w.content).subspan(offset, bytes));
}

task<bool> all_blocks_are_right(world& w) {
  const std::uint64_t total = w.info.layout().total_bytes();
  bool right = true;
  for (const std::uint64_t bytes : {1, 511, 4096, 16 << 10, 40'000}) {
    for (std::uint64_t offset = 0; offset + bytes <= total; offset += 7'919) {
      for (const std::uint32_t at : {0, 4096}) {
        const bool same = co_await block_is_right(w, offset, bytes, at);
        right = right && same;
      }
    }
    const bool same = co_await block_is_right(w, total - bytes, bytes, 0);
    right = right && same;
  }
  co_return right;
}

task<bool> open_direct(bt::store& files) {
  const std::string refused = co_await files.open_direct();
  co_return refused.empty();
}

}  // namespace

TEST_CASE("blocks are read around the page cache, posted or stored, across files as well") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    REQUIRE(w.open());
    CHECK(w.store->spare_bytes() == 0);
    if (!w.engine.run(open_direct(*w.store))) {
      MESSAGE("no O_DIRECT here");
      return;
    }
    CHECK(w.store->spare_bytes() > 0);
    const std::uint64_t total = w.info.layout().total_bytes();
    for (std::uint64_t begin = 0; begin < total; begin += bt::block_bytes) {
      const std::uint64_t bytes = std::min<std::uint64_t>(bt::block_bytes, total - begin);
      REQUIRE(w.engine.run(w.post(begin, bytes)));
      CHECK(w.engine.run(block_is_right(w, begin, bytes, 0)));
      CHECK(w.engine.run(block_is_right(w, begin / 2, bytes, 0)));
    }
    CHECK(w.engine.run(all_blocks_are_right(w)));
    REQUIRE(w.engine.run(w.store->commit()).has_value());
    w.store.reset();
    w.engine->run();
    w.store = std::move(*w.engine.run(bt::store::open_to_read(*w.engine, w.info, w.out)));
    REQUIRE(w.engine.run(open_direct(*w.store)));
    CHECK(w.engine.run(all_blocks_are_right(w)));
  }
}

TEST_CASE("what is missing of a file that has become shorter is not made up") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    REQUIRE(w.open());
    static_cast<void>(w.engine.run(open_direct(*w.store)));
    std::filesystem::resize_file(w.dir.at("out/t/a"), 100);
    CHECK_FALSE(w.engine.run(block_is_right(w, 60'000, 100, 0)));
    CHECK_FALSE(w.engine.run(block_is_right(w, 69'990, 100, 0)));
  }
}

TEST_CASE("directories made above the torrent's are synced in their parents") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    std::uint64_t syncs[2] = {0, 0};
    for (const bool is_there : {false, true}) {
      world w(backend);
      w.out = w.dir.at("one/two/three/");
      if (is_there) std::filesystem::create_directories(w.out);
      REQUIRE(w.open());
      CHECK(w.dir.has("one/two/three/t/sub/c"));
      syncs[is_there ? 1 : 0] = w.engine.counter("sluice.commit.syncs");
    }
    CHECK(syncs[0] == syncs[1] + 3);
  }
}

namespace {

// Above it, on its filesystem.
std::uint64_t directories_above(std::filesystem::path of) {
  struct stat here{};
  struct stat above{};
  std::uint64_t count = 0;
  of = std::filesystem::canonical(of);
  REQUIRE(::stat(of.c_str(), &here) == 0);
  for (;; here = above, ++count) {
    of = of.parent_path();
    REQUIRE(::stat(of.c_str(), &above) == 0);
    if (above.st_dev != here.st_dev || above.st_ino == here.st_ino) return count;
  }
}

}  // namespace

TEST_CASE("of what is there already every directory is synced, from the deepest to the top") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    w.out = w.dir.at("one/two");
    std::filesystem::create_directories(w.dir.at("one/two/t/sub"));
    std::filesystem::create_directory_symlink(w.dir.at("one/two"), w.dir.at("link"));
    for (const std::string& named : {w.out, w.dir.at("link"), w.dir.at("one/../one/two/")}) {
      CAPTURE(named);
      w.out = named;
      const std::uint64_t before = w.engine.counter("sluice.commit.syncs");
      REQUIRE(w.open());
      // Beside those above: two and t, in which there are directories.
      const std::uint64_t expected = directories_above(w.dir.at("one/two")) + 2;
      CHECK(w.engine.counter("sluice.commit.syncs") - before == expected);
      REQUIRE(w.engine.run(w.store->commit()).has_value());
      // The three files with content, and t and sub, in which there are files.
      CHECK(w.engine.counter("sluice.commit.syncs") - before == expected + 5);
    }
  }
}

TEST_CASE("the directory may be named in any way that leads to it, and a link to nowhere is none") {
  world w("pool");
  std::filesystem::create_directories(w.dir.at("there"));
  std::filesystem::create_directory_symlink(w.dir.at("there"), w.dir.at("link"));
  for (const char* name : {"link/new", "missing/../beside", "./there/./a//b"}) {
    CAPTURE(name);
    w.out = w.dir.at(name);
    CHECK_MESSAGE(w.open(), w.problem);
  }
  CHECK(w.dir.has("there/new/t/a"));
  CHECK(w.dir.has("beside/t/a"));
  CHECK(w.dir.has("there/a/b/t/a"));
  const std::filesystem::path relative = std::filesystem::relative(w.dir.at("r/s"));
  w.out = relative.string();
  CHECK_MESSAGE(w.open(), w.problem);
  CHECK(w.dir.has("r/s/t/a"));
  std::filesystem::create_directory_symlink(w.dir.at("nowhere"), w.dir.at("dangling"));
  w.out = w.dir.at("dangling");
  CHECK_FALSE(w.open());
  CHECK_FALSE(w.dir.has("nowhere"));
}

namespace {

// No file may grow or be written beyond it while this lives.
struct file_limit {
  explicit file_limit(rlim_t bytes) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit now{bytes, before.rlim_max};
    handler = ::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  file_limit(const file_limit&) = delete;
  file_limit& operator=(const file_limit&) = delete;
  ~file_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before);
    ::signal(SIGXFSZ, handler);
  }
  rlimit before{};
  sighandler_t handler = SIG_DFL;
};

// The end of the first file fails; of the second one all but its last bytes came, and wait.
task<int> commit_beyond_the_limit(world& w, std::uint64_t bytes) {
  for (std::uint64_t begin = 0; begin < bytes; begin += bt::block_bytes) {
    // Those of the first file may be refused already.
    co_await w.post(begin, std::min<std::uint64_t>(bt::block_bytes, bytes - begin));
  }
  const result<void> done = co_await w.store->commit();
  co_return done ? 0 : done.error().code;
}

}  // namespace

TEST_CASE("a commit that fails for one file keeps what came for the others, and says so") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    w.info.files = {{"t/a", 98'304}, {"t/b", 1'000}, {"t/c", 60'700}};
    REQUIRE(w.open());
    {
      const file_limit beneath_the_first(73'728);
      CHECK(w.engine.run(commit_beyond_the_limit(w, 145'000)) == EFBIG);
    }
    w.store.reset();
    w.engine->run();
    const std::string kept = w.dir.read("out/t/c").substr(0, 45'000);
    const auto sent = std::span<const std::byte>(w.content).subspan(99'304, 45'000);
    CHECK(support::same_bytes(std::as_bytes(std::span(kept)), sent));
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

TEST_CASE("what comes for a pad becomes zeroes, and what lies beside it stays") {
  world w("pool");
  w.info.files = {{"t/a", 70'001}, {"", 1'000, true}, {"", 0, true}, {"t/b", 90'000}};
  REQUIRE(w.open());
  const std::uint64_t pad = 70'001;
  CHECK_FALSE(w.store->has_pad(0, pad));
  CHECK(w.store->has_pad(0, pad + 1));
  CHECK(w.store->has_pad(pad + 999, 2));
  CHECK_FALSE(w.store->has_pad(pad + 1'000, 5'000));
  std::vector<std::byte> bytes(3'000, std::byte{7});
  w.store->clear_pads(std::span(bytes), pad - 1'000);
  const auto zeroes = [&bytes](std::size_t from, std::size_t to) {
    return std::count(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                      bytes.begin() + static_cast<std::ptrdiff_t>(to), std::byte{0});
  };
  CHECK(zeroes(0, 1'000) == 0);
  CHECK(zeroes(1'000, 2'000) == 1'000);
  CHECK(zeroes(2'000, 3'000) == 0);
}
