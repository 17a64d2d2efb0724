// A disk that tells its error to one sync only, of one of several engines: who waits for another
// engine, or comes to it later, is not told that all is well.
#include <sys/stat.h>

#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using support::request_kind;
namespace code = sluice::code;

// What an engine has at hand before anything fails.
struct prepared {
  sluice::directory in;
  sluice::file made;
};

sluice::task<int> prepare(sluice::engine& e, std::string folder, prepared& p) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  if (!in) co_return in.error().code;
  p.in = std::move(*in);
  sluice::result<sluice::file> created = co_await p.in.create();
  if (!created) co_return created.error().code;
  p.made = std::move(*created);
  const std::vector<std::byte> bytes = support::pattern(1, 0, 10'000);
  sluice::op_await writing = p.made.write(bytes, 0);
  const sluice::result<std::size_t> written = co_await writing;
  co_return written ? 0 : written.error().code;
}

sluice::task<int> publish(prepared& p, std::string name) {
  const sluice::result<void> done = co_await sluice::publish(p.made, p.in, std::move(name));
  co_return done ? 0 : done.error().code;
}

sluice::task<int> commit(prepared& p) {
  const sluice::result<void> done = co_await p.made.commit();
  co_return done ? 0 : done.error().code;
}

sluice::task<int> create(prepared& p) {
  const sluice::result<sluice::file> made = co_await p.in.create();
  co_return made ? 0 : made.error().code;
}

sluice::task<int> sync(prepared& p) {
  const sluice::result<void> done = co_await p.in.sync();
  co_return done ? 0 : done.error().code;
}

void tell(sluice::engine& from, sluice::engine& to) {
  from.on_suspect(
      [&to](std::uint64_t device) { to.post([&to, device] { to.add_suspect(device); }); });
}

// Two engines that tell each other, each with a file to be published in the same folder.
class two_engines {
 public:
  two_engines(support::fault_fs& disk, const way& how, const char* on_failure = "fail_file")
      : disk_(disk),
        one_(disk, how, on_failure),
        other_(support::make_engine(support::small_knobs(
            how.backend, {{"sluice.commit.solo_max", how.shares ? "0" : "1"}}))) {
    tell(one(), other());
    tell(other(), one());
    const std::string folder = one_.folder().path();
    REQUIRE(run(one(), prepare(one(), folder, of_one)) == 0);
    REQUIRE(run(other(), prepare(other(), folder, of_other)) == 0);
    disk_.orders().reset();
  }
  two_engines(const two_engines&) = delete;
  two_engines& operator=(const two_engines&) = delete;
  ~two_engines() {
    of_one = {};
    of_other = {};
    one().on_suspect({});
  }

  [[nodiscard]] sluice::engine& one() { return one_.engine(); }
  [[nodiscard]] sluice::engine& other() { return other_; }
  [[nodiscard]] std::vector<std::string> names() const { return one_.names(); }

  static void until(sluice::engine& e, const std::function<bool()>& done) {
    const auto last = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
      REQUIRE(std::chrono::steady_clock::now() < last);
      e.run_once(std::chrono::milliseconds(20));
    }
  }
  static int run(sluice::engine& e, sluice::task<int> work) {
    std::optional<int> told;
    e.start(std::move(work), [&told](int c) { told = c; });
    until(e, [&told] { return told.has_value(); });
    return *told;
  }
  // What the first engine's work ends with: while the disk stands still at its first request of
  // that kind, `meanwhile` is called.
  template <class Meanwhile>
  std::optional<int> stopped_at(request_kind kind, sluice::task<int> work, Meanwhile meanwhile) {
    disk_.orders().of(kind).stop_at = 1;
    std::optional<int> told;
    one().start(std::move(work), [&told](int c) { told = c; });
    until(one(), [&] { return told || disk_.has_stopped(std::chrono::milliseconds(0)); });
    const bool early = told.has_value();
    CHECK_FALSE(early);
    meanwhile();
    disk_.resume();
    until(one(), [&told] { return told.has_value(); });
    return told;
  }
  void hears(bool fails, std::uint64_t device) {
    if (fails) one().add_suspect(device);
  }
  [[nodiscard]] static std::uint64_t counter(const sluice::engine& e, const char* name) {
    return *e.counters().get(name);
  }

  prepared of_one;
  prepared of_other;

 private:
  support::fault_fs& disk_;
  disk_world one_;
  sluice::engine other_;
};

std::uint64_t device_of(const std::string& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return info.st_dev;
}

}  // namespace

TEST_CASE("a failed sync of one engine is one to the others, until each has cleared it") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      two_engines two(disk, how);
      disk.orders().fail(request_kind::sync_directory, 1, EIO);
      CHECK(two.run(two.one(), publish(two.of_one, "one")) == code::durability_unknown);
      // From here on the disk says yes, and would to the other.
      CHECK(two.run(two.other(), sync(two.of_other)) == code::durability_unknown);
      CHECK(disk.orders().of(request_kind::sync_directory).seen.load() == 2);
      CHECK(two.run(two.other(), publish(two.of_other, "other")) == code::filesystem_suspect);
      CHECK(two.run(two.other(), create(two.of_other)) == code::filesystem_suspect);
      CHECK(two.counter(two.other(), "sluice.commit.suspects") == 1);
      CHECK(two.counter(two.other(), "sluice.commit.failures") == 0);
      CHECK(std::ranges::count(two.names(), "one") == 1);
      CHECK(std::ranges::count(two.names(), "other") == 0);
      CHECK(two.other().clear_suspects() == 1);
      CHECK(two.counter(two.one(), "sluice.commit.suspects") == 1);
      CHECK(two.one().clear_suspects() == 1);
      CHECK(two.run(two.other(), publish(two.of_other, "other")) == 0);
    }
  });
}

TEST_CASE("a publish whose data or directory is being synced hears of another engine's failure") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    const std::uint64_t device = device_of(disk.mount_point());
    for (const way& how : every_way({"copy"})) {
      for (const request_kind stuck : {request_kind::sync, request_kind::sync_directory}) {
        for (const bool fails : {false, true}) {
          CAPTURE(name(how));
          CAPTURE(static_cast<int>(stuck));
          CAPTURE(fails);
          two_engines two(disk, how);
          const std::optional<int> told =
              two.stopped_at(stuck, publish(two.of_one, "one"), [&] { two.hears(fails, device); });
          CHECK(told == (fails ? code::durability_unknown : 0));
          // A solo's worker has no turn of the loop before it gives the name.
          const bool unnamed = fails && stuck == request_kind::sync && how.shares;
          CHECK(std::ranges::count(two.names(), "one") == (unnamed ? 0 : 1));
          // What was told is told to nobody else: it would come back.
          two.other().run_once({});
          CHECK(two.counter(two.other(), "sluice.commit.suspects") == 0);
        }
      }
    }
  });
}

TEST_CASE("a commit hears of another engine's failure meanwhile, and its file stays lost") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    const std::uint64_t device = device_of(disk.mount_point());
    for (const way& how : every_way({"copy"})) {
      for (const bool fails : {false, true}) {
        CAPTURE(name(how));
        CAPTURE(fails);
        two_engines two(disk, how);
        const int expected = fails ? code::durability_unknown : 0;
        CHECK(two.stopped_at(request_kind::sync, commit(two.of_one),
                             [&] { two.hears(fails, device); }) == expected);
        CHECK(two.one().clear_suspects() == (fails ? 1 : 0));
        CHECK(two.run(two.one(), commit(two.of_one)) == expected);
      }
    }
  });
}

TEST_CASE("a publish does not name what was synced while the engine failed on another disk") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      if (!how.shares) continue;
      CAPTURE(name(how));
      two_engines two(disk, how, "fail_engine");
      const std::optional<int> told = two.stopped_at(request_kind::sync, publish(two.of_one, "one"),
                                                     [&] { two.hears(true, device_of("/proc")); });
      CHECK(told == code::engine_failed);
      CHECK(std::ranges::count(two.names(), "one") == 0);
    }
  });
}
