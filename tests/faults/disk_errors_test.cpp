// A disk that fails at any one of its requests: the upload ends with the error that says so,
// nothing is published, and nothing is left behind.
#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using conformance::uploaded;
using support::request_kind;
namespace code = sluice::code;

constexpr std::array errors{EIO, ENOSPC, EDQUOT, ETIMEDOUT};

int failure_of(const uploaded& u) {
  if (!u.outcome) return u.outcome.error().code;
  return u.published ? 0 : u.published.error().code;
}

// How many requests of a kind an undisturbed upload makes.
std::uint64_t requests_of(disk_world& w, support::fault_fs& disk, request_kind kind) {
  disk.orders().reset();
  const uploaded u = w.upload(1);
  REQUIRE(failure_of(u) == 0);
  CHECK(w.body_is_whole(1));
  w.clear();
  return disk.orders().of(kind).seen;
}

// Lets each of them fail in turn with EIO and with ENOSPC, the few with all errors; then none.
template <class Check>
void fail_each(disk_world& w, support::fault_fs& disk, request_kind kind, Check check) {
  const std::uint64_t requests = requests_of(w, disk, kind);
  REQUIRE(requests > 0);
  const std::uint64_t rounds = requests < errors.size() ? errors.size() : 2;
  for (std::uint64_t round = 0; round < rounds * requests; ++round) {
    const std::uint64_t k = round % requests + 1;
    const int error = errors[round / requests];
    CAPTURE(k);
    CAPTURE(error);
    disk.orders().reset();
    disk.orders().fail(kind, k, error);
    check(w.upload(k), error);
    w.engine().clear_suspects();  // of a failed sync; the next error is to be seen by itself
  }
  disk.orders().reset();
  const uploaded after = w.upload(99);
  CHECK(failure_of(after) == 0);
  CHECK(w.body_is_whole(99));
  w.clear();
}

template <class Check>
void fail_each_in_every_way(request_kind kind, const std::vector<way>& ways, Check check) {
  on_fault_fs({}, [&](support::fault_fs& disk) {
    for (const way& how : ways) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      fail_each(w, disk, kind, [&](const uploaded& u, int error) { check(w, u, error); });
    }
  });
}

void check_error_and_nothing_left(const disk_world& w, const uploaded& u, int error) {
  CHECK(failure_of(u) == error);
  CHECK(w.nothing_is_left());
}

std::vector<way> preallocating_ways() {
  std::vector<way> all = every_way();
  std::erase_if(all, [](const way& w) { return w.preallocate == "off"; });
  return all;
}

std::vector<way> direct_ways() { return every_way({"direct"}); }

sluice::task<int> create_and_write(sluice::engine& e, std::string folder, sluice::file& made) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  if (!in) co_return in.error().code;
  sluice::result<sluice::file> created = co_await in->create();
  if (!created) co_return created.error().code;
  made = std::move(*created);
  const std::vector<std::byte> bytes = support::pattern(1, 0, 10'000);
  sluice::op_await writing = made.write(bytes, 0);
  const sluice::result<std::size_t> written = co_await writing;
  co_return written ? 0 : written.error().code;
}

sluice::task<int> commit(sluice::file& f) {
  const sluice::result<void> done = co_await f.commit();
  co_return done ? 0 : done.error().code;
}

sluice::task<int> publish(sluice::engine& e, sluice::file& f, std::string folder,
                          sluice::publish_options options = {}) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder);
  if (!in) co_return in.error().code;
  const sluice::result<void> done = co_await sluice::publish(f, *in, "body", options);
  co_return done ? 0 : done.error().code;
}

sluice::task<int> open_root(sluice::engine& e, std::string path, sluice::directory& into) {
  sluice::result<sluice::directory> opened = co_await sluice::directory::open(e, path);
  if (!opened) co_return opened.error().code;
  into = std::move(*opened);
  co_return 0;
}

sluice::task<int> enter(sluice::directory& from, std::string path, sluice::make_parents make,
                        sluice::directory& into) {
  sluice::result<sluice::directory> opened = co_await from.open_directory(path, make);
  if (!opened) co_return opened.error().code;
  into = std::move(*opened);
  co_return 0;
}

sluice::task<int> publish_in(sluice::directory& in, std::string last_name) {
  sluice::result<sluice::file> made = co_await in.create();
  if (!made) co_return made.error().code;
  const sluice::result<void> done = co_await sluice::publish(*made, in, last_name);
  co_return done ? 0 : done.error().code;
}

}  // namespace

TEST_CASE("an upload whose k-th write fails ends with that error and leaves nothing") {
  fail_each_in_every_way(request_kind::write, every_way(), check_error_and_nothing_left);
}

// Several requests may be one splice: of one that fails behind others only the next call is told.
TEST_CASE("a spliced upload whose writes fail from the k-th on counts the bytes the file has") {
  constexpr std::uint64_t length = 4 << 20;
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"splice"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (std::uint64_t k = 1; k <= 4; ++k) {
        CAPTURE(k);
        disk.orders().reset();
        disk.orders().fail(request_kind::write, k, std::uint64_t{1} << 60, EIO);
        const std::vector<std::byte> sent = support::pattern(k, 0, length);
        conformance::stream_pair ends = conformance::stream_pair::tcp();
        conformance::peer sender(ends.take_theirs(), [&sent](int fd) {
          conformance::send_all(fd, std::span(sent).subspan(300));
        });
        sluice::receipt progress;
        {
          const int fd = ::open(w.at("plain").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
          sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
          REQUIRE(into.has_value());
          sluice::stream from = conformance::adopt(w.engine(), ends.take_ours());
          sluice::receive_options options = conformance::of_length(length);
          options.prefix = std::span(sent).first(300);
          const auto r = w.run(sluice::receive_to_file(from, *into, options, &progress));
          REQUIRE(!r.has_value());
          CHECK(r.error().code == EIO);
        }
        sender.join(w);
        w.settle();
        CHECK(progress.bytes == disk.orders().taken_bytes.load());
        CHECK((progress.bytes > 0) == (k > 1));
        const std::vector<std::byte> stored = conformance::content_of(w.at("plain"));
        REQUIRE(stored.size() >= progress.bytes);
        CHECK(conformance::same_bytes(std::span(stored).first(progress.bytes),
                                      std::span(sent).first(progress.bytes)));
        std::filesystem::remove(w.at("plain"));
      }
    }
  });
}

TEST_CASE("an upload whose writes all fail from the k-th on ends with that error") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way()) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint64_t k : {1U, 2U, 5U}) {
        disk.orders().reset();
        disk.orders().fail(request_kind::write, k, std::uint64_t{1} << 60, ENOSPC);
        check_error_and_nothing_left(w, w.upload(k), ENOSPC);
      }
    }
  });
}

TEST_CASE("an upload whose file cannot be made, reserved, cut or named leaves nothing") {
  fail_each_in_every_way(request_kind::create, every_way(), check_error_and_nothing_left);
  fail_each_in_every_way(request_kind::allocate, preallocating_ways(),
                         check_error_and_nothing_left);
  fail_each_in_every_way(request_kind::truncate, direct_ways(), check_error_and_nothing_left);
  fail_each_in_every_way(request_kind::rename, every_way(), check_error_and_nothing_left);
}

TEST_CASE("a filesystem that cannot reserve takes the upload all the same") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : preallocating_ways()) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      disk.orders().reset();
      disk.orders().fail(request_kind::allocate, 1, 99, EOPNOTSUPP);
      CHECK(failure_of(w.upload(1)) == 0);
      CHECK(w.body_is_whole(1));
    }
  });
}

TEST_CASE("a failed sync of the data: durability_unknown, and nothing is published") {
  fail_each_in_every_way(request_kind::sync, every_way(),
                         [](const disk_world& w, const uploaded& u, int) {
                           CHECK(u.outcome.has_value());
                           CHECK(failure_of(u) == code::durability_unknown);
                           CHECK(w.nothing_is_left());
                         });
}

TEST_CASE("a failed sync of the directory: durability_unknown, and the name shows the whole body") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way()) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      const std::uint64_t syncs = requests_of(w, disk, request_kind::sync_directory);
      CHECK(syncs == 1);
      disk.orders().reset();
      disk.orders().fail(request_kind::sync_directory, 1, EIO);
      const uploaded u = w.upload(5);
      CHECK(failure_of(u) == code::durability_unknown);
      CHECK(w.names() == std::vector<std::string>{"body"});
      CHECK(w.body_is_whole(5));
    }
  });
}

namespace {

sluice::task<int> enter_fresh(sluice::engine& e, std::string folder, sluice::make_parents make) {
  sluice::result<sluice::directory> root = co_await sluice::directory::open(e, folder);
  if (!root) co_return root.error().code;
  const sluice::result<sluice::directory> made = co_await root->open_directory("fresh", make);
  co_return made ? 0 : made.error().code;
}

sluice::task<int> publish_in_fresh(sluice::engine& e, std::string folder) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder + "/fresh");
  if (!in) co_return in.error().code;
  sluice::result<sluice::file> made = co_await in->create();
  if (!made) co_return made.error().code;
  const sluice::result<void> published = co_await sluice::publish(*made, *in, "name");
  co_return published ? 0 : published.error().code;
}

}  // namespace

namespace {

// As sluiced does with a name that it holds a lock for: the promise is made by the last step.
sluice::task<int> publish_in_steps(sluice::engine& e, std::string folder) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder + "/fresh");
  if (!in) co_return in.error().code;
  sluice::result<sluice::file> made = co_await in->create();
  if (!made) co_return made.error().code;
  const sluice::result<void> named =
      co_await sluice::publish(*made, *in, "stepwise", {.wanted = sluice::durability::stored});
  if (!named) co_return named.error().code;
  const sluice::result<void> synced = co_await in->sync();
  co_return synced ? 0 : synced.error().code;
}

}  // namespace

TEST_CASE("who publishes in steps in such a directory syncs its name with the last of them") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      const std::string folder = w.folder().path().string();
      disk.orders().reset();
      disk.orders().fail(request_kind::sync_directory, 1, EIO);
      CHECK(w.run(enter_fresh(w.engine(), folder, sluice::make_parents::yes)) ==
            code::durability_unknown);
      CHECK(w.engine().clear_suspects() == 1);
      CHECK(w.run(publish_in_steps(w.engine(), folder)) == 0);
      CHECK(disk.orders().of(request_kind::sync_directory).seen == 3);
      std::filesystem::remove_all(folder + "/fresh");
    }
  });
}

TEST_CASE("who publishes in a directory that its maker could not sync syncs its name himself") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      const std::string folder = w.folder().path().string();
      const auto syncs = [&] { return disk.orders().of(request_kind::sync_directory).seen.load(); };
      disk.orders().reset();
      disk.orders().fail(request_kind::sync_directory, 1, EIO);
      CHECK(w.run(enter_fresh(w.engine(), folder, sluice::make_parents::yes)) ==
            code::durability_unknown);
      CHECK(w.engine().clear_suspects() == 1);
      // Another failure is his, too, and nothing has the name then.
      disk.orders().fail(request_kind::sync_directory, 2, EIO);
      CHECK(w.run(publish_in_fresh(w.engine(), folder)) == code::durability_unknown);
      CHECK_FALSE(std::filesystem::exists(folder + "/fresh/name"));
      CHECK(syncs() == 2);
      CHECK(w.engine().clear_suspects() == 1);
      CHECK(w.run(publish_in_fresh(w.engine(), folder)) == 0);
      CHECK(syncs() == 4);  // of the parent, and of the directory
      CHECK(w.run(publish_in_fresh(w.engine(), folder)) == 0);
      CHECK(syncs() == 5);  // the parent is known to be synced now
      std::filesystem::remove_all(folder + "/fresh");
    }
  });
}

namespace {

constexpr std::size_t publishers = 6;

// Publishes at once; 0 or what each was told.
std::vector<int> publish_together(disk_world& w) {
  std::vector<int> codes;
  const std::string folder = w.folder().path().string();
  for (std::size_t i = 0; i < publishers; ++i) {
    const auto one = [](sluice::engine& e, std::string in, std::string name,
                        std::vector<int>& told) -> sluice::task<void> {
      sluice::result<sluice::directory> root = co_await sluice::directory::open(e, in);
      REQUIRE(root.has_value());
      sluice::result<sluice::file> made = co_await root->create();
      if (made) {
        const sluice::result<void> published = co_await sluice::publish(*made, *root, name);
        told.push_back(published ? 0 : published.error().code);
      } else {
        told.push_back(made.error().code);
      }
    };
    w.engine().spawn(one(w.engine(), folder, "name-" + std::to_string(i), codes));
  }
  w.until([&codes] { return codes.size() == publishers; });
  return codes;
}

// Whichever of so many syncs fails: somebody is told, and whoever is told yes has a name.
void fail_each_sync(disk_world& w, support::fault_fs& disk, request_kind kind) {
  for (std::uint64_t k = 1; k <= publishers; ++k) {
    for (const int error : {EIO, ENOSPC}) {
      CAPTURE(k);
      CAPTURE(error);
      disk.orders().reset();
      disk.orders().fail(kind, k, error);
      const std::vector<int> codes = publish_together(w);
      const bool failed = disk.orders().of(kind).seen >= k;
      const auto yes = static_cast<std::size_t>(std::ranges::count(codes, 0));
      CHECK((yes < publishers) == failed);
      CHECK(std::ranges::count(codes, code::durability_unknown) >= (failed ? 1 : 0));
      CHECK(w.names().size() >= yes);
      CHECK(w.engine().clear_suspects() == (failed ? 1U : 0U));
      for (const std::string& name : w.names()) std::filesystem::remove(w.at(name));
      w.settle();
    }
  }
}

}  // namespace

TEST_CASE("whichever sync of several publishers fails, those it was for are told") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      fail_each_sync(w, disk, request_kind::sync);
      fail_each_sync(w, disk, request_kind::sync_directory);
    }
  });
}

TEST_CASE("a write that fails behind the page cache is durability_unknown at the sync") {
  on_fault_fs({.writeback = true}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const int error : errors) {
        CAPTURE(error);
        disk.orders().reset();
        disk.orders().fail(request_kind::write, 1, error);
        const uploaded u = w.upload(3);
        CHECK(u.outcome.has_value());
        CHECK(failure_of(u) == code::durability_unknown);
        CHECK(failure_of(w.upload(3)) == code::filesystem_suspect);
        CHECK(w.engine().clear_suspects() == 1);
        CHECK(w.nothing_is_left());
      }
    }
  });
}

TEST_CASE("a write-back that fails while pages are dropped behind an upload is not lost") {
  on_fault_fs({.writeback = true}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      // The last ones are none that a write-back is known to fail with.
      for (const int error : {EIO, ENOSPC, EDQUOT, ETIMEDOUT, EREMOTEIO}) {
        CAPTURE(error);
        disk.orders().reset();
        disk.orders().fail(request_kind::write, 1, error);
        const uploaded u = w.upload(3, sluice::cache_policy::drop_behind);
        const int failure = failure_of(u);
        CHECK((failure == error || failure == code::durability_unknown));
        CHECK(w.nothing_is_left());
        w.engine().clear_suspects();
      }
    }
  });
}

TEST_CASE("after a failed sync the file is poisoned: the disk would say yes and is not asked") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      disk.orders().reset();
      disk.orders().fail(request_kind::sync, 1, ENOSPC);
      sluice::file f;
      REQUIRE(w.run(create_and_write(w.engine(), w.folder().path(), f)) == 0);
      CHECK(w.run(commit(f)) == code::durability_unknown);
      CHECK(w.run(commit(f)) == code::durability_unknown);
      CHECK(w.run(publish(w.engine(), f, w.folder().path())) == code::filesystem_suspect);
      CHECK(w.engine().clear_suspects() == 1);
      CHECK(w.run(publish(w.engine(), f, w.folder().path())) == code::durability_unknown);
      CHECK(disk.orders().of(request_kind::sync).seen.load() == 1);
      f = {};
      w.settle();
      CHECK(w.nothing_is_left());
    }
  });
}

TEST_CASE("who commits a file while its sync is failing is not told that a second one went well") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      sluice::file f;
      REQUIRE(w.run(create_and_write(w.engine(), w.folder().path(), f)) == 0);
      disk.orders().reset();
      disk.orders().fail(request_kind::sync, 1, EIO);
      disk.orders().of(request_kind::sync).stop_at = 1;
      std::vector<int> told;
      const auto keep = [&told](int code) { told.push_back(code); };
      w.engine().start(commit(f), keep);
      w.until([&] { return disk.has_stopped(std::chrono::milliseconds(0)); });
      w.engine().start(commit(f), keep);
      w.engine().run_once(std::chrono::milliseconds(1));
      disk.resume();
      w.until([&] { return told.size() == 2; });
      CHECK(told == std::vector<int>(2, code::durability_unknown));
      CHECK(disk.orders().of(request_kind::sync).seen.load() == 1);
      w.engine().clear_suspects();
    }
  });
}

TEST_CASE("a publish vouches for every new directory above it, not for the nearest alone") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      const auto syncs = [&disk] {
        return disk.orders().of(request_kind::sync_directory).seen.load();
      };
      sluice::directory root;
      sluice::directory first;
      sluice::directory second;
      REQUIRE(w.run(open_root(w.engine(), w.folder().path(), root)) == 0);
      disk.orders().reset();
      // "first" is made, and the sync of its parent is not carried out.
      disk.orders().fail(request_kind::sync_directory, 1, ECANCELED);
      CHECK(w.run(enter(root, "first", sluice::make_parents::yes, first)) ==
            code::durability_unknown);
      REQUIRE(w.run(enter(root, "first", sluice::make_parents::no, first)) == 0);
      REQUIRE(w.run(enter(first, "second", sluice::make_parents::yes, second)) == 0);
      CHECK(syncs() == 2);
      CHECK(w.run(publish_in(second, "one")) == 0);
      CHECK(syncs() == 4);  // of the root, too
      CHECK(w.run(publish_in(second, "two")) == 0);
      CHECK(syncs() == 5);
      std::filesystem::remove_all(w.at("first"));
    }
  });
}

TEST_CASE("where renames take no flags, who must not replace still gets a new name or EEXIST") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      const sluice::publish_options keep{.existing = sluice::existing_name::keep};
      for (const int wanted : {0, EEXIST}) {
        sluice::file f;
        REQUIRE(w.run(create_and_write(w.engine(), w.folder().path(), f)) == 0);
        disk.orders().reset();
        disk.orders().fail(request_kind::rename, 1, EINVAL);
        CHECK(w.run(publish(w.engine(), f, w.folder().path(), keep)) == wanted);
        // A name that exists is EEXIST before the filesystem is asked.
        CHECK(disk.orders().of(request_kind::rename).seen.load() == (wanted == 0 ? 1 : 0));
        f = {};
        w.settle();
        CHECK(w.names() == std::vector<std::string>{"body"});
      }
      CHECK(support::is_pattern(conformance::content_of(w.at("body")), 1, 0));
      w.clear();
    }
  });
}
