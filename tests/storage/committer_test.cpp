#include "storage/committer.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <deque>
#include <string>
#include <vector>

#include "storage/file_state.hpp"
#include "support/engine_fixture.hpp"
#include "support/scripted_backend.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;

struct bench {
  ~bench() { CHECK(on.ops_under_way() == 0); }

  // Waits once in a lane; the outcome goes to `told` when it is there.
  task<void> wait(lane_key key, int fd) {
    committer::turn_await turn(commits, key);
    turn.wait.fd = fd;
    const std::int64_t outcome = co_await turn;
    told.push_back(outcome);
  }
  void start(lane_key key, int fd) {
    detail::carry(wait(key, fd), [] {}).handle.resume();
  }
  void turns() {
    for (int i = 0; i < 4; ++i) on.turn(0, 1000);
  }

  support::scripted_backend backend;
  tuning::counters counters;
  tuning::commit_knobs knobs;
  loop on{backend, counters};
  std::vector<std::string> warnings;
  committer commits{on, knobs, counters,
                    [this](std::string_view text) { warnings.emplace_back(text); }};
  std::vector<std::int64_t> told;
};

std::uint64_t device_of(int fd) {
  struct stat info{};
  REQUIRE(::fstat(fd, &info) == 0);
  return info.st_dev;
}

constexpr lane_key directory_one{lane_kind::directory, 1, 1};

TEST_CASE("waits of one key share a sync, waits of different keys do not") {
  bench b;
  for (int i = 0; i < 5; ++i) b.start(directory_one, 3);
  b.start({lane_kind::directory, 1, 2}, 4);
  b.start({lane_kind::directory, 2, 1}, 5);
  b.backend.script({0, 0, 0});
  b.turns();
  CHECK(b.told == std::vector<std::int64_t>(7, 0));
  CHECK(b.counters.commit.syncs.get() == 3);
  CHECK(b.counters.commit.filesystem_syncs.get() == 0);
  CHECK(b.counters.commit.failures.get() == 0);
}

TEST_CASE("a lane that served one key serves another, thousands of times") {
  bench b;
  for (std::uint64_t inode = 1; inode <= 3000; ++inode) {
    b.backend.script({0});
    b.start({lane_kind::directory, 1, inode}, 3);
    b.turns();
  }
  CHECK(b.told.size() == 3000);
  CHECK(b.counters.commit.syncs.get() == 3000);
}

TEST_CASE("a failed sync makes its filesystem suspect, and no other, until that is cleared") {
  const support::temp_dir dir;
  bench b;
  const std::uint64_t device = device_of(dir.fd());
  CHECK_FALSE(b.commits.refuses_somewhere());
  b.backend.script({-EIO});
  b.start(directory_one, dir.fd());
  b.start(directory_one, dir.fd());
  b.turns();
  CHECK(b.told == std::vector<std::int64_t>(2, -EIO));
  CHECK(b.counters.commit.failures.get() == 1);
  CHECK(b.counters.commit.suspects.get() == 1);
  CHECK(b.commits.refuses_somewhere());
  CHECK(b.commits.refusal(device) == code::filesystem_suspect);
  CHECK(b.commits.refusal(device + 1) == 0);
  CHECK(b.commits.refusal() == 0);
  // Once, however often it fails.
  b.backend.script({-ENOSPC});
  b.start(directory_one, dir.fd());
  b.turns();
  CHECK(b.counters.commit.failures.get() == 2);
  CHECK(b.counters.commit.suspects.get() == 1);
  REQUIRE(b.warnings.size() == 1);
  CHECK(b.warnings[0].find("EIO") != std::string::npos);

  CHECK(b.commits.clear_suspects() == 1);
  CHECK(b.commits.refusal(device) == 0);
  CHECK_FALSE(b.commits.refuses_somewhere());
  CHECK(b.counters.commit.suspects.get() == 0);
  CHECK(b.commits.clear_suspects() == 0);
}

TEST_CASE("a loss is told of its filesystem, to who asks from before it, cleared or not") {
  const support::temp_dir dir;
  bench b;
  const std::uint64_t device = device_of(dir.fd());
  CHECK(b.commits.losses() == 0);
  CHECK_FALSE(b.commits.lost_since(0, device));
  for (std::uint64_t loss = 1; loss <= 2; ++loss) {
    b.backend.script({-EIO});
    b.start(directory_one, dir.fd());
    b.turns();
    CHECK(b.commits.losses() == loss);
    CHECK(b.commits.lost_since(loss - 1, device));
    CHECK_FALSE(b.commits.lost_since(loss, device));
    CHECK_FALSE(b.commits.lost_since(0, device + 1));
  }
  CHECK(b.commits.refusal(device) == code::filesystem_suspect);
  CHECK(b.commits.clear_suspects() == 1);
  CHECK(b.commits.refusal(device) == 0);
  CHECK_FALSE(b.commits.refuses_somewhere());
  CHECK(b.commits.clear_suspects() == 0);
  // Who waits since before is told all the same.
  CHECK(b.commits.lost_since(1, device));
  CHECK(b.commits.cleared_losses() == 2);
  CHECK(b.commits.losses() == 2);
}

TEST_CASE("every lost sync is passed on, and one of another engine counts as an own one") {
  const support::temp_dir dir;
  bench one;
  bench other;
  std::vector<std::uint64_t> passed_on;
  one.commits.on_suspect([&](std::uint64_t device) {
    CHECK(one.told.empty());  // before who waits is told
    passed_on.push_back(device);
  });
  const std::uint64_t device = device_of(dir.fd());
  // The second one too: it is news to those who have begun since the first.
  for (std::uint64_t loss = 1; loss <= 2; ++loss) {
    one.told.clear();
    one.backend.script({-EIO});
    one.start(directory_one, dir.fd());
    one.turns();
    REQUIRE(passed_on == std::vector<std::uint64_t>(loss, device));
    CHECK(other.commits.add_suspect(passed_on.back()) == (loss == 1));
    CHECK(other.commits.losses() == loss);
    CHECK(other.commits.lost_since(loss - 1, device));
    CHECK_FALSE(other.commits.lost_since(loss, device));
  }
  CHECK(other.commits.refusal(device) == code::filesystem_suspect);
  CHECK(other.commits.refusal(device + 1) == 0);
  CHECK(other.counters.commit.suspects.get() == 1);
  CHECK(other.counters.commit.failures.get() == 0);
  CHECK(other.warnings.empty());  // who failed has said it
  CHECK(one.commits.add_suspect(device) == false);
  CHECK(passed_on.size() == 2);  // not passed on again
  CHECK(other.commits.clear_suspects() == 1);
  CHECK(other.commits.refusal(device) == 0);

  other.knobs.on_failure = tuning::sync_failure_choice::fail_engine;
  CHECK(other.commits.add_suspect(device));
  CHECK(other.commits.refusal() == code::engine_failed);
  // Nobody listens any more.
  one.commits.on_suspect({});
  one.backend.script({-EIO});
  one.start(directory_one, dir.fd());
  one.turns();
  CHECK(passed_on.size() == 2);
}

TEST_CASE("on_failure=fail_engine refuses everything, and clearing does not help") {
  const support::temp_dir dir;
  bench b;
  b.knobs.on_failure = tuning::sync_failure_choice::fail_engine;
  b.backend.script({-EIO});
  b.start(directory_one, dir.fd());
  b.turns();
  CHECK(b.commits.refusal() == code::engine_failed);
  CHECK(b.commits.refusal(device_of(dir.fd()) + 1) == code::engine_failed);
  CHECK(b.commits.clear_suspects() == 1);
  CHECK(b.commits.refusal() == code::engine_failed);
  CHECK(b.commits.refuses_somewhere());
}

TEST_CASE("a publish goes solo while few do, nobody is in a lane and none is to be delayed") {
  const support::temp_dir dir;
  bench b;
  b.knobs.solo_max = 2;
  CHECK(b.commits.is_for_solo(8));
  CHECK_FALSE(b.commits.is_for_solo(0));
  {
    const committer::solo first(b.commits, {.inode = 1, .device = 1});
    CHECK(b.commits.is_for_solo(8));
    CHECK_FALSE(b.commits.is_for_solo(1));
    const committer::solo second(b.commits, {.inode = 1, .device = 1});
    CHECK_FALSE(b.commits.is_for_solo(8));
  }
  CHECK(b.commits.is_for_solo(8));
  b.knobs.delay_us = 1;
  CHECK_FALSE(b.commits.is_for_solo(8));
  b.knobs.delay_us = 0;
  b.knobs.grouping = tuning::grouping_choice::filesystem;
  CHECK_FALSE(b.commits.is_for_solo(8));
  b.knobs.grouping = tuning::grouping_choice::automatic;
  b.backend.script({0});
  b.start(directory_one, dir.fd());
  CHECK_FALSE(b.commits.is_for_solo(8));
  b.turns();
  CHECK(b.commits.is_for_solo(8));
}

TEST_CASE("a directory's lane waits for the solos in it, and for no others") {
  bench b;
  constexpr lane_key directory_two{lane_kind::directory, 1, 2};
  {
    const committer::solo first(b.commits, {.inode = 1, .device = 1});
    const committer::solo other(b.commits, {.inode = 2, .device = 2});
    {
      const committer::solo second(b.commits, {.inode = 1, .device = 1});
      CHECK(&first.in() == &second.in());
      CHECK(&first.in() != &other.in());
      b.start(directory_one, 3);
      b.start(directory_two, 4);
      b.turns();
      REQUIRE(b.backend.held().size() == 1);
      CHECK(b.backend.held().front()->request.fd == 4);
      b.backend.answer(*b.backend.held().front(), 0);
    }
    b.start(directory_one, 5);
    b.turns();
    CHECK(b.backend.held().empty());
    CHECK(b.told.size() == 1);
  }
  b.turns();
  REQUIRE(b.backend.held().size() == 1);  // one sync for both
  CHECK(b.backend.held().front()->request.fd == 3);
  b.backend.answer(*b.backend.held().front(), 0);
  b.turns();
  CHECK(b.told == std::vector<std::int64_t>(3, 0));
  CHECK(b.commits.is_for_solo(8) == (b.knobs.solo_max > 0));  // no lane is left
}

TEST_CASE("a sync that no thread could be found for is not a lost one") {
  const support::temp_dir dir;
  bench b;
  b.backend.script({-ECANCELED});
  b.start(directory_one, dir.fd());
  b.turns();
  CHECK(b.told == std::vector<std::int64_t>{-ECANCELED});
  CHECK(b.counters.commit.failures.get() == 0);
  CHECK(b.counters.commit.syncs.get() == 0);
  CHECK_FALSE(b.commits.refuses_somewhere());
  CHECK_FALSE(is_lost_sync(code::no_thread));
  CHECK(is_lost_sync(ETIMEDOUT));  // of a disk or a server: no sync has a deadline of ours
  CHECK(is_lost_sync(EIO));
  CHECK(is_lost_sync(EDQUOT));
}

TEST_CASE("which lane a file's data takes follows from grouping, size and filesystem") {
  support::engine_fixture engine("pool");
  const support::temp_dir dir;
  bench b;
  file_state file(engine->core(), kernel::unique_fd(dir.open("file")));
  file_state foreign(engine->core(),
                     kernel::unique_fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)));
  const bool trusted = kernel::filesystem_of(file.fd.get()).syncfs_distrust() == nullptr;
  for (const file_state* of : {&file, &foreign}) {
    const kernel::inode_info inode = kernel::inode_of(of->fd.get()).value();
    CHECK(b.commits.data_lane(*of, inode).kind == lane_kind::file);  // not known yet
    b.commits.known_filesystems().learn(inode, kernel::filesystem_of(of->fd.get()));
  }
  const auto lane = [&](const file_state& of, std::uint64_t bytes) {
    kernel::inode_info inode = kernel::inode_of(of.fd.get()).value();
    inode.bytes = bytes;
    return b.commits.data_lane(of, inode);
  };
  using tuning::grouping_choice;
  for (const grouping_choice grouping :
       {grouping_choice::automatic, grouping_choice::each, grouping_choice::filesystem}) {
    b.knobs.grouping = grouping;
    const bool shared = trusted && grouping != grouping_choice::each;
    const lane_key small = lane(file, 16'384);
    CHECK(small.kind == (shared ? lane_kind::filesystem : lane_kind::file));
    if (shared) CHECK(small.device == device_of(file.fd.get()));
    // A file as large as a group is one by itself.
    CHECK(lane(file, b.knobs.bytes_max).kind == lane_kind::file);
    CHECK(lane(foreign, 10).kind == lane_kind::file);
    CHECK(lane(foreign, 10) != lane(file, b.knobs.bytes_max));
  }
}

TEST_CASE("where grouping=filesystem is not to be had, that is said once") {
  support::engine_fixture engine("pool");
  bench b;
  b.knobs.grouping = tuning::grouping_choice::filesystem;
  file_state foreign(engine->core(),
                     kernel::unique_fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)));
  const kernel::inode_info inode = kernel::inode_of(foreign.fd.get()).value();
  b.commits.known_filesystems().learn(inode, kernel::filesystem_of(foreign.fd.get()));
  for (int i = 0; i < 3; ++i) CHECK(b.commits.data_lane(foreign, inode).kind == lane_kind::file);
  REQUIRE(b.warnings.size() == 1);
  CHECK(b.warnings[0].find("sluice.commit.grouping") != std::string::npos);
}

}  // namespace
