#include "storage/commit.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "conformance/suite.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "support/scripted_backend.hpp"
#include "support/told_op.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

sluice::task<int> commit(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit();
  co_return done ? 0 : done.error().code;
}

sluice::task<int> sync(sluice::directory& d) {
  const sluice::result<void> done = co_await d.sync();
  co_return done ? 0 : done.error().code;
}

sluice::task<void> commit_and_keep(sluice::file_state& f, std::vector<int>& told) {
  const sluice::result<void> done = co_await sluice::commit_writes(f);
  told.push_back(done ? 0 : done.error().code);
}

void start_commit(sluice::file_state& f, std::vector<int>& told) {
  sluice::detail::carry(commit_and_keep(f, told), [] {}).handle.resume();
}

int opened(world& w, const char* name) {
  const int fd = ::open(w.at(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  return fd;
}

}  // namespace

TEST_CASE("a commit is one sync, and every commit is counted") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::result<sluice::file> f = sluice::file::adopt(w.engine(), opened(w, "file"));
    REQUIRE(f.has_value());
    CHECK(w.run(commit(*f)) == 0);
    CHECK(w.run(commit(*f)) == 0);
    CHECK(w.counter("sluice.commit.waiters") == 2);
    CHECK(w.counter("sluice.commit.syncs") == 2);
    CHECK(w.counter("sluice.commit.failures") == 0);
  }
}

TEST_CASE("a failed sync is final: no later commit of the file asks again") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    // fdatasync of a pipe fails with EINVAL: a real failure, from the kernel.
    sluice::file f(std::make_unique<sluice::file_state>(w.engine().core(),
                                                        sluice::kernel::unique_fd(ends[1])));
    CHECK(w.run(commit(f)) == code::durability_unknown);
    CHECK(w.counter("sluice.commit.failures") == 1);
    // The second time the kernel would say 0.
    f.state().fd.reset(opened(w, "file"));
    CHECK(w.run(commit(f)) == code::durability_unknown);
    CHECK(w.counter("sluice.commit.failures") == 1);
    CHECK(w.counter("sluice.commit.syncs") == 0);
    CHECK(w.counter("sluice.commit.waiters") == 2);
    ::close(ends[0]);
  }
}

TEST_CASE("nothing is published when the sync of the file failed") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const auto publish_lost = [](sluice::engine& e,
                                 std::filesystem::path folder) -> sluice::task<int> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
      sluice::result<sluice::file> made = co_await in->create();
      made->state().durability_lost = true;
      const sluice::result<void> done = co_await sluice::publish(*made, *in, "name");
      co_return done ? 0 : done.error().code;
    };
    CHECK(w.run(publish_lost(w.engine(), w.folder().path())) == code::durability_unknown);
    w.settle();
    CHECK(w.names().empty());
  }
}

TEST_CASE("a commit that was cancelled before it began is no failed sync") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::result<sluice::file> f = sluice::file::adopt(w.engine(), opened(w, "file"));
    std::optional<int> told;
    const sluice::task_handle handle = w.engine().start(commit(*f), [&told](int c) { told = c; });
    w.engine().cancel(handle);
    w.until([&told] { return told.has_value(); });
    CHECK(*told == ECANCELED);
    CHECK(w.counter("sluice.commit.failures") == 0);
    CHECK(w.run(commit(*f)) == 0);
  }
}

TEST_CASE("a directory is synced, and one that cannot be says durability_unknown") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const auto open =
        [](sluice::engine& e,
           std::filesystem::path path) -> sluice::task<sluice::result<sluice::directory>> {
      co_return co_await sluice::directory::open(e, path.string());
    };
    sluice::result<sluice::directory> d = w.run(open(w.engine(), w.folder().path()));
    REQUIRE(d.has_value());
    CHECK(w.run(sync(*d)) == 0);
    CHECK(w.counter("sluice.commit.syncs") == 1);
    const auto sync_pipe = [](sluice::engine& e, int fd) -> sluice::task<int> {
      const sluice::result<void> done = co_await sluice::sync_directory(e.core(), fd, 0);
      co_return done ? 0 : done.error().code;
    };
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    CHECK(w.run(sync_pipe(w.engine(), ends[0])) == code::durability_unknown);
    CHECK(w.counter("sluice.commit.failures") == 1);
    CHECK(w.run(sync(*d)) == 0);  // a loss on another filesystem
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("those who commit one file at the same time share a sync; who comes later has the next") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::result<sluice::file> f = sluice::file::adopt(w.engine(), opened(w, "file"));
    REQUIRE(f.has_value());
    int left = 50;
    for (int i = 0; i < 50; ++i) w.engine().start(commit(*f), [&left](int c) { left -= c == 0; });
    w.until([&left] { return left == 0; });
    CHECK(w.counter("sluice.commit.waiters") == 50);
    CHECK(w.counter("sluice.commit.syncs") == 1);
    CHECK(w.run(commit(*f)) == 0);
    CHECK(w.counter("sluice.commit.syncs") == 2);
  }
}

TEST_CASE("a failed sync is told to all that waited for it, and refuses what comes after") {
  for (const char* on_failure : {"fail_file", "fail_engine"}) {
    for (const setting& on : every_setting()) {
      CAPTURE(on.name);
      CAPTURE(on_failure);
      world w(on, {{"sluice.commit.on_failure", on_failure}});
      int ends[2];
      REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
      sluice::file f(std::make_unique<sluice::file_state>(w.engine().core(),
                                                          sluice::kernel::unique_fd(ends[1])));
      std::vector<int> codes;
      for (int i = 0; i < 5; ++i)
        w.engine().start(commit(f), [&codes](int c) { codes.push_back(c); });
      w.until([&codes] { return codes.size() == 5; });
      CHECK(codes == std::vector<int>(5, code::durability_unknown));
      CHECK(w.counter("sluice.commit.failures") == 1);
      CHECK(w.counter("sluice.commit.suspects") == 1);
      // Another file, on a filesystem that nothing is wrong with.
      sluice::result<sluice::file> other = sluice::file::adopt(w.engine(), opened(w, "file"));
      const bool engine_ended = std::string_view(on_failure) == "fail_engine";
      CHECK(w.run(commit(*other)) == (engine_ended ? code::engine_failed : 0));
      CHECK(w.engine().clear_suspects() == 1);
      CHECK(w.run(commit(*other)) == (engine_ended ? code::engine_failed : 0));
      ::close(ends[0]);
    }
  }
}

// The kernel has told the error then, and says 0 to whoever asks next.
TEST_CASE(
    "who commits a file between its failed sync and the answers to it is not told it is safe") {
  support::scripted_backend backend;
  sluice::tuning::counters counters;
  const sluice::tuning::commit_knobs knobs;
  sluice::loop on(backend, counters);
  const support::temp_dir dir;
  support::engine_fixture engine("pool");
  engine->core().storage_part() =
      std::make_unique<sluice::committer>(on, knobs, counters, [](std::string_view) {});
  sluice::file_state f(engine->core(), sluice::kernel::unique_fd(dir.open("file")));
  const auto turns = [&on](int count) {
    for (int i = 0; i < count; ++i) on.turn(0, 1000);
  };
  std::vector<int> told;
  start_commit(f, told);
  turns(3);
  REQUIRE(backend.held().size() == 1);
  // Runs in the turn of the failure, behind the lane and before the one who waited.
  support::told_op behind(support::request_of(sluice::op_kind::read));
  behind.then = [&] {
    CHECK(told.empty());
    start_commit(f, told);
  };
  on.start(behind, nullptr);
  turns(1);
  REQUIRE(backend.held().size() == 2);
  backend.answer(*backend.held().front(), -EIO);
  backend.answer(behind, 0);
  turns(3);
  CHECK(told == std::vector<int>{code::durability_unknown});
  REQUIRE(backend.held().size() == 1);  // the second sync, which knows nothing
  backend.answer(*backend.held().front(), 0);
  turns(3);
  CHECK(told == std::vector<int>(2, code::durability_unknown));
  CHECK(on.ops_under_way() == 0);
}
