#include "disk_survey.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "torrent_world.hpp"

using bt::disk_survey;
using bt_test::world;

namespace {

struct outcome {
  std::set<std::uint32_t> found;
  int ends = 0;
  bool well = false;
};

outcome survey(world& w, disk_survey::purpose why, bool stopped = false) {
  outcome got;
  disk_survey s(*w.engine, *w.store, w.info.pieces, why);
  s.start([&got](std::uint32_t piece) { got.found.insert(piece); },
          [&got](const sluice::result<void>& done) {
            ++got.ends;
            got.well = done.has_value();
          });
  if (stopped) s.stop();
  w.engine->run();
  return got;
}

void write_all(world& w) {
  const std::uint64_t total = w.info.layout().total_bytes();
  for (std::uint64_t begin = 0; begin < total; begin += bt::block_bytes)
    REQUIRE(w.engine.run(w.post(begin, std::min<std::uint64_t>(bt::block_bytes, total - begin))));
  REQUIRE(w.engine.run(w.store->commit()).has_value());
}

constexpr auto both = {disk_survey::purpose::resume, disk_survey::purpose::seed};

}  // namespace

TEST_CASE("the pieces that are right are found, and no others") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    REQUIRE(w.open());
    for (const auto why : both) {
      const outcome empty = survey(w, why);
      CHECK(empty.found.empty());
      CHECK(empty.ends == 1);
      CHECK(empty.well);
    }
    write_all(w);
    for (const auto why : both) CHECK(survey(w, why).found == std::set<std::uint32_t>{0, 1, 2});
    std::fstream file(w.dir.at("out/t/sub/b"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(10'000);  // in piece 1
    file << "damage";
    file.close();
    for (const auto why : both) CHECK(survey(w, why).found == std::set<std::uint32_t>{0, 2});
  }
}

TEST_CASE("a file that has become shorter has none of the pieces it lacks, which is no error") {
  world w("pool");
  REQUIRE(w.open());
  write_all(w);
  std::filesystem::resize_file(w.dir.at("out/t/sub/b"), 10'000);
  for (const auto why : both) {
    const outcome got = survey(w, why);
    CHECK(got.found == std::set<std::uint32_t>{0});
    CHECK(got.well);
  }
}

TEST_CASE("one that is stopped ends without an error and does not look at the rest") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w(backend);
    REQUIRE(w.open());
    write_all(w);
    const outcome got = survey(w, disk_survey::purpose::resume, true);
    CHECK(got.found.empty());
    CHECK(got.ends == 1);
    CHECK(got.well);
  }
}
