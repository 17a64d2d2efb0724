#include "storage/sync_lane.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "kernel/fd.hpp"
#include "kernel/file_info.hpp"
#include "ops/table.hpp"
#include "support/scripted_backend.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using support::scripted_backend;

// A wait that keeps what it was told.
class told_wait : public lane_wait {
 public:
  explicit told_wait(int of, std::uint64_t its_bytes = 0) {
    fd = of;
    bytes = its_bytes;
    context = this;
    complete = [](op& o) noexcept {
      auto& self = *static_cast<told_wait*>(o.context);
      ++self.times_told;
      self.told = o.outcome();
    };
  }
  int times_told = 0;
  std::int64_t told = 1;
};

struct group {
  op_kind kind;
  std::uint32_t flags;
  int first;
  std::int64_t outcome;
  bool operator==(const group&) const = default;
};

struct bench final : lane_host {
  explicit bench(lane_kind kind = lane_kind::filesystem) : lane({kind, 7, 0}, on, knobs, *this) {}
  ~bench() { CHECK(on.ops_under_way() == 0); }

  void served(const op_request& by, const lane_wait& first, std::int64_t outcome) override {
    groups.push_back({by.kind, by.flags, first.fd, outcome});
  }
  bool may_begin(const sync_lane&) override { return !held_back; }
  void idle(sync_lane&) override { ++times_idle; }

  told_wait& join(int fd, scope* of = nullptr, std::uint64_t bytes = 0) {
    told_wait& w = waits.emplace_back(fd, bytes);
    on.start(w, of);
    lane.join(w);
    return w;
  }
  void turns(int count = 3) {
    for (int i = 0; i < count; ++i) on.turn(0, 1000);
  }
  // The descriptors that the sync under way was given beside its own.
  std::vector<int> descriptors() {
    const op_request& r = backend.held().front()->request;
    const int* first = static_cast<const int*>(r.data);
    return {first, first + r.length};
  }
  void answer(std::int64_t result) {
    REQUIRE(backend.held().size() == 1);
    backend.answer(*backend.held().front(), result);
    turns();
  }

  scripted_backend backend;
  tuning::counters counters;
  tuning::commit_knobs knobs;
  loop on{backend, counters};
  std::deque<told_wait> waits;
  std::vector<group> groups;
  int times_idle = 0;
  bool held_back = false;
  sync_lane lane;
};

TEST_CASE("all that join in one turn share one sync, and who comes while it runs is of the next") {
  bench b;
  told_wait& first = b.join(3);
  b.turns();
  REQUIRE(b.backend.held().size() == 1);
  for (int fd = 4; fd < 104; ++fd) b.join(fd);
  b.turns();
  CHECK(b.backend.held().size() == 1);
  CHECK(first.times_told == 0);
  b.answer(0);
  CHECK(first.told == 0);
  CHECK(b.waits[1].times_told == 0);
  REQUIRE(b.backend.held().size() == 1);
  CHECK(b.descriptors().size() == 100);
  b.answer(0);
  for (const told_wait& w : b.waits) {
    CHECK(w.times_told == 1);
    CHECK(w.told == 0);
  }
  CHECK(b.groups ==
        std::vector<group>{{op_kind::fsync, fsync_data_only, 3, 0}, {op_kind::syncfs, 0, 4, 0}});
  CHECK(b.times_idle == 1);
}

TEST_CASE("a lane held back gathers until it may begin, and is idle when all have gone by then") {
  bench b;
  b.held_back = true;
  b.join(3);
  b.turns();
  b.join(4);
  b.turns();
  CHECK(b.backend.held().empty());
  b.held_back = false;
  b.lane.resume();
  b.turns();
  CHECK(b.descriptors().size() == 2);
  b.answer(0);
  CHECK(b.times_idle == 1);
  b.held_back = true;
  scope task;
  b.join(5, &task);
  b.turns();
  task.cancel(b.on);
  b.turns();
  CHECK(b.waits.back().told == -ECANCELED);
  b.held_back = false;
  b.lane.resume();
  b.turns();
  CHECK(b.times_idle == 2);
}

TEST_CASE("what a sync says all of its group are told, and nobody else") {
  bench b;
  for (int fd = 3; fd < 6; ++fd) b.join(fd);
  b.turns();
  told_wait& later = b.join(9);
  b.answer(-EIO);
  for (int i = 0; i < 3; ++i) CHECK(b.waits[static_cast<std::size_t>(i)].told == -EIO);
  CHECK(later.times_told == 0);
  b.answer(0);
  CHECK(later.told == 0);
}

TEST_CASE(
    "a lost sync of a file is told to those who wait by then, a cancelled one is made again") {
  for (const auto& [outcome, told] : {std::pair{-EIO, -EIO}, std::pair{-ECANCELED, 0}}) {
    bench b(lane_kind::file);
    b.join(3);
    b.turns();
    told_wait& later = b.join(3);
    b.answer(outcome);
    CHECK(b.waits[0].told == outcome);
    CHECK(later.times_told == (outcome == told ? 1 : 0));
    if (later.times_told == 0) b.answer(0);
    CHECK(later.told == told);
    CHECK(b.groups.size() == (outcome == told ? 1 : 2));
  }
}

TEST_CASE("a sync is asked of the kind of the lane") {
  struct row {
    lane_kind kind;
    group wanted;
  };
  for (const row& r : std::array{
           row{lane_kind::file, {op_kind::fsync, fsync_data_only, 3, 0}},
           row{lane_kind::directory, {op_kind::fsync, 0, 3, 0}},
           row{lane_kind::filesystem, {op_kind::syncfs, 0, 3, 0}},
       }) {
    bench b(r.kind);
    b.join(3);
    b.join(4);
    b.turns();
    b.answer(0);
    CHECK(b.groups == std::vector{r.wanted});
  }
}

TEST_CASE("members that want their moment as modification time are dated and synced by one call") {
  const support::temp_dir folder;
  bench b;
  b.backend.perform = [](const op_request& r) {
    CHECK(r.kind == op_kind::call);
    return row_of(r.kind).perform(r);
  };
  std::array<kernel::unique_fd, 3> files;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string path = folder.path() / std::to_string(i);
    files[i] = kernel::unique_fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    const timespec long_ago[2] = {{1000, 1}, {1000, 1}};
    REQUIRE(::futimens(files[i].get(), long_ago) == 0);
    b.join(files[i].get()).when = i == 1 ? modified::as_written : modified::now;
  }
  b.turns(4);
  const auto date_of = [&files](std::size_t i) {
    return kernel::inode_of(files[i].get())->modified_ns;
  };
  CHECK(date_of(0) > date_of(1));
  CHECK(date_of(1) == 1'000'000'000'001);
  CHECK(date_of(2) > date_of(1));
  for (const told_wait& w : b.waits) CHECK(w.told == 0);
  CHECK(b.groups == std::vector{group{op_kind::syncfs, 0, files[0].get(), 0}});
  b.groups.clear();
  // What the sync says is what they are told, not that the call was carried out.
  b.join(-1).when = modified::now;
  b.turns(4);
  CHECK(b.waits.back().told == -EBADF);
  CHECK(b.groups == std::vector{group{op_kind::fsync, fsync_data_only, -1, -EBADF}});
}

TEST_CASE("grouping=filesystem asks the filesystem for one file too") {
  bench b;
  b.knobs.grouping = tuning::grouping_choice::filesystem;
  b.join(3);
  b.turns();
  CHECK(b.descriptors() == std::vector{3});
  b.answer(0);
}

TEST_CASE("a cancel takes off who waits, and no sync begins for nobody") {
  bench b;
  scope task;
  told_wait& w = b.join(3, &task);
  task.cancel(b.on);
  b.turns();
  CHECK(w.told == -ECANCELED);
  CHECK(b.backend.held().empty());
  CHECK(b.groups.empty());
  CHECK(b.times_idle == 1);
}

TEST_CASE("a cancel waits for a sync that has begun, and is told its result") {
  bench b;
  scope task;
  scope other;
  told_wait& w = b.join(3, &task);
  told_wait& beside = b.join(4, &other);
  b.turns();
  told_wait& next = b.join(5, &task);
  task.cancel(b.on);
  b.turns();
  CHECK(w.times_told == 0);
  CHECK(next.told == -ECANCELED);
  CHECK(b.backend.count_of(scripted_backend::event_kind::cancel) == 0);
  b.answer(0);
  CHECK(w.told == 0);
  CHECK(beside.told == 0);
  CHECK(b.backend.held().empty());
}

TEST_CASE("a group ends at count_max and at bytes_max, and the rest is the next one") {
  bench b;
  b.knobs.count_max = 3;
  for (int fd = 0; fd < 7; ++fd) b.join(fd);
  std::vector<std::size_t> sizes;
  b.turns();
  while (!b.backend.held().empty()) {
    const bool alone = b.backend.held().front()->request.kind == op_kind::fsync;
    sizes.push_back(alone ? 1 : b.descriptors().size());
    b.answer(0);
  }
  CHECK(sizes == std::vector<std::size_t>{3, 3, 1});

  bench by_bytes;
  by_bytes.knobs.bytes_max = 100;
  for (const std::uint64_t bytes : {60U, 40U, 1U, 99U, 101U, 5U}) by_bytes.join(3, nullptr, bytes);
  sizes.clear();
  by_bytes.turns();
  while (!by_bytes.backend.held().empty()) {
    const bool alone = by_bytes.backend.held().front()->request.kind == op_kind::fsync;
    sizes.push_back(alone ? 1 : by_bytes.descriptors().size());
    by_bytes.answer(0);
  }
  CHECK(sizes == std::vector<std::size_t>{2, 2, 1, 1});
}

TEST_CASE("a delay lets a group gather, until it is full") {
  bench b;
  b.knobs.delay_us = 100'000'000;  // beyond this test
  b.knobs.count_max = 3;
  b.join(3);
  b.join(4);
  b.turns(10);
  CHECK(b.backend.held().empty());
  CHECK(b.on.next_deadline_ns() != 0);
  b.join(5);
  b.turns();
  CHECK(b.descriptors() == std::vector{3, 4, 5});
  b.answer(0);
  CHECK(b.on.next_deadline_ns() == 0);

  b.knobs.delay_us = 1000;
  b.join(6);
  b.on.turn(0, 100);
  CHECK(b.backend.held().empty());
  for (int i = 0; i < 100 && b.backend.held().empty(); ++i) b.on.turn(1'000'000, 100);
  b.answer(0);
}

TEST_CASE("without a delay a sync begins in the next turn, and a directory never waits") {
  for (const lane_kind kind : {lane_kind::filesystem, lane_kind::directory}) {
    bench b(kind);
    if (kind == lane_kind::directory) b.knobs.delay_us = 100'000'000;
    b.join(3);
    b.turns(2);
    CHECK(b.backend.held().size() == 1);
    b.answer(0);
  }
}

TEST_CASE("a lane that names serves each of its group, in order, by one call") {
  struct served_once {
    std::vector<int>* order;
    int number;
    int result;
  };
  bench b(lane_kind::naming);
  b.backend.perform = [](const op_request& r) { return row_of(r.kind).perform(r); };
  std::vector<int> order;
  std::array<served_once, 3> subjects{{{&order, 1, 0}, {&order, 2, EEXIST}, {&order, 3, 0}}};
  for (served_once& s : subjects) {
    told_wait& w = b.join(3);
    w.subject = &s;
    w.serve = [](void* subject) {
      auto& one = *static_cast<served_once*>(subject);
      one.order->push_back(one.number);
      return one.result;
    };
  }
  b.turns(4);
  CHECK(order == std::vector{1, 2, 3});
  CHECK(b.waits[0].told == 0);
  CHECK(b.waits[1].told == -EEXIST);
  CHECK(b.waits[2].told == 0);
  CHECK(b.groups.size() == 1);
}

}  // namespace
