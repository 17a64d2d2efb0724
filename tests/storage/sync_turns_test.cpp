#include "storage/sync_turns.hpp"

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "conformance/suite.hpp"

namespace {

using namespace conformance;
using namespace std::chrono_literals;
using sluice::sync_turns;

constexpr sync_turns::key one{1, 7};
constexpr sync_turns::key other{2, 7};

sync_turns::key turn_of(const std::filesystem::path& folder) {
  struct stat info{};
  REQUIRE(::stat(folder.c_str(), &info) == 0);
  return {info.st_dev, info.st_ino};
}

sluice::task<int> publish_one(sluice::engine& e, std::string folder) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, std::move(folder));
  if (!in) co_return in.error().code;
  sluice::result<sluice::file> made = co_await in->create();
  if (!made) co_return made.error().code;
  std::string name = "name";
  const sluice::result<void> done = co_await sluice::publish(*made, *in, std::move(name));
  co_return done ? 0 : done.error().code;
}

sluice::task<int> commit_one(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit();
  co_return done ? 0 : done.error().code;
}

sluice::task<int> commit_dated(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit_to_publish(sluice::modified::now);
  co_return done ? 0 : done.error().code;
}

// Whether the task ends while somebody else has the turn, and that it does afterwards.
bool goes_ahead(world& w, const sync_turns::key& turn, sluice::task<int> work) {
  sync_turns& turns = sync_turns::of_process();
  REQUIRE(turns.try_begin(turn));
  std::optional<int> told;
  w.engine().start(std::move(work), [&told](int code) { told = code; });
  const auto enough = std::chrono::steady_clock::now() + 100ms;
  while (std::chrono::steady_clock::now() < enough) w.engine().run_once(10ms);
  const bool ahead = told.has_value();
  turns.end(turn);
  w.until([&told] { return told.has_value(); });
  CHECK(told == 0);
  CHECK(turns.try_begin(turn));  // given back
  turns.end(turn);
  return ahead;
}

}  // namespace

TEST_CASE("a turn is one's own until it ends, and each thing has its own") {
  sync_turns turns;
  CHECK(turns.try_begin(one));
  CHECK_FALSE(turns.try_begin(one));
  CHECK(turns.try_begin(other));
  turns.end(one);
  CHECK(turns.try_begin(one));
}

TEST_CASE("who waits for a turn has it when the one before has ended") {
  sync_turns turns;
  CHECK(turns.try_begin(one));
  std::atomic<bool> begun = false;
  std::thread waiting([&] {
    const sync_turns::hold turn(turns, one);
    begun = true;
  });
  const sync_turns::hold elsewhere(turns, other);
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(begun);
  turns.end(one);
  waiting.join();
  CHECK(begun);
  CHECK(turns.try_begin(one));
}

TEST_CASE("a publish waits for the sync of its directory that another engine has under way") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    for (const char* solo_max : {"0", "1"}) {
      CAPTURE(solo_max);
      world w(on, {{"sluice.commit.solo_max", solo_max}});
      const std::string folder = w.folder().path();
      CHECK_FALSE(goes_ahead(w, turn_of(folder), publish_one(w.engine(), folder)));
    }
  }
}

TEST_CASE("a commit waits for the sync of its file that somebody else has under way") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::result<sluice::file> f = sluice::file::adopt(
        w.engine(), ::open(w.at("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(f.has_value());
    CHECK_FALSE(goes_ahead(w, turn_of(w.at("file")), commit_one(*f)));
  }
}

TEST_CASE("a commit that dates its file waits for its turn as well") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::result<sluice::file> f = sluice::file::adopt(
        w.engine(), ::open(w.at("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(f.has_value());
    CHECK_FALSE(goes_ahead(w, turn_of(w.at("file")), commit_dated(*f)));
  }
}

// One worker each. The first has the turn of A at hand while its worker waits for B, the second
// the other way round: were a turn taken before a worker is free, they would wait for each other.
TEST_CASE("engines whose workers wait for turns do not keep each other from theirs") {
  const std::string a = "a";
  const std::string b = "b";
  for (int i = 0; i < 20; ++i) {
    const support::temp_dir root;
    for (const std::string& name : {a, b}) std::filesystem::create_directory(root.path() / name);
    const auto publish_many = [&root](const std::string& first, const std::string& second) {
      sluice::engine e = support::make_engine(support::small_knobs(
          "pool", {{"sluice.pool.threads", "1"}, {"sluice.commit.solo_max", "0"}}));
      for (int n = 0; n < 10; ++n) {
        for (const std::string& name : {first, second}) {
          e.start(publish_one(e, (root.path() / name).string()), [](int code) {
            if (code != 0) std::abort();
          });
        }
      }
      e.run();
    };
    std::thread other_engine([&] { publish_many(b, a); });
    publish_many(a, b);
    other_engine.join();
  }
}
