// A disk that fails when written pages are to reach it: everybody who waits is told that it is
// unknown what the disk holds, nothing is published, and nothing more is until somebody says so.
#include "conformance/suite.hpp"
#include "faults/child.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::size_t mib = 1 << 20;
constexpr std::size_t files = 32;
constexpr std::size_t together = 4;

struct prepared {
  sluice::directory in;
  std::vector<sluice::file> made;
};

// Opens the folder and makes files whose content is in the page cache only.
sluice::task<int> prepare(sluice::engine& e, std::filesystem::path folder, prepared& p) {
  const std::vector<std::byte> content = pattern(1, 0, 65'536);
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return in.error().code;
  p.in = std::move(*in);
  for (std::size_t i = 0; i < files; ++i) {
    sluice::result<sluice::file> made = co_await p.in.create();
    if (!made) co_return made.error().code;
    sluice::op_await writing = made->write(content, 0);
    const sluice::result<std::size_t> written = co_await writing;
    if (!written) co_return written.error().code;
    p.made.push_back(std::move(*made));
  }
  co_return 0;
}

sluice::task<int> publish_one(prepared& p, std::size_t number) {
  const sluice::result<void> done =
      co_await sluice::publish(p.made[number], p.in, "name-" + std::to_string(number));
  co_return done ? 0 : done.error().code;
}

sluice::task<int> commit_one(prepared& p, std::size_t number) {
  const sluice::result<void> done = co_await p.made[number].commit();
  co_return done ? 0 : done.error().code;
}

// The data's part of a publish.
sluice::task<int> commit_to_publish(prepared& p, std::size_t number) {
  const sluice::result<void> done = co_await p.made[number].commit_to_publish();
  co_return done ? 0 : done.error().code;
}

// Opens another directory to publish in.
sluice::task<int> enter(sluice::engine& e, std::filesystem::path folder, prepared& p) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return in.error().code;
  p.in = std::move(*in);
  co_return 0;
}

sluice::task<int> create_one(prepared& p) {
  const sluice::result<sluice::file> made = co_await p.in.create();
  co_return made ? 0 : made.error().code;
}

// Every fourth asks for the data alone.
void check_failed_group(world& w, prepared& p, const std::string& root) {
  faults::fill_disk_below(root);
  std::vector<int> codes;
  for (std::size_t i = 0; i < files; ++i) {
    w.engine().start(i % 4 == 3 ? commit_to_publish(p, i) : publish_one(p, i),
                     [&codes](int c) { codes.push_back(c); });
  }
  w.until([&codes] { return codes.size() == files; });
  CHECK(codes == std::vector<int>(files, code::durability_unknown));
  CHECK(w.names().empty());
  CHECK(w.counter("sluice.commit.suspects") == 1);
  CHECK(w.counter("sluice.publish.count") == 0);
}

void check_refusals(world& w, prepared& p, bool engine_ended) {
  const int refusal = engine_ended ? code::engine_failed : code::filesystem_suspect;
  const std::uint64_t failures = w.counter("sluice.commit.failures");
  const std::uint64_t syncs = w.counter("sluice.commit.syncs");
  CHECK(w.run(commit_one(p, 0)) == code::durability_unknown);
  CHECK(w.run(create_one(p)) == refusal);
  CHECK(w.run(publish_one(p, 0)) == refusal);
  CHECK(w.counter("sluice.publish.refused") == 2);
  CHECK(w.engine().clear_suspects() == 1);
  // Each file of the group stays lost whatever an operator says: the kernel would answer 0 now.
  for (std::size_t i = 0; i < files; ++i) {
    CAPTURE(i);
    CHECK(w.run(commit_one(p, i)) == code::durability_unknown);
    CHECK(w.run(publish_one(p, i)) == (engine_ended ? refusal : code::durability_unknown));
  }
  CHECK(w.names().empty());
  CHECK(w.run(create_one(p)) != code::filesystem_suspect);
  CHECK(w.counter("sluice.commit.failures") == failures);
  CHECK(w.counter("sluice.commit.syncs") == syncs);
}

// Runs body(mount point) in a child that sees a small disk which can be made to lose writes.
template <class Body>
void on_little_disk(const std::string& mkfs_options, Body body) {
  const std::unique_ptr<support::temp_dir> parent =
      temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  faults::in_child([&] {
    faults::mount_ext4_on_little(root, 16 * mib, mkfs_options);
    body(root);
  });
}

void fail_in(const std::string& backend, const std::string& grouping, const std::string& on_failure,
             const std::string& solo_max) {
  CAPTURE(backend);
  CAPTURE(solo_max);
  CAPTURE(grouping);
  CAPTURE(on_failure);
  on_little_disk({}, [&](const std::string& root) {
    world w({backend, backend, root, true, ""}, {{"sluice.commit.grouping", grouping},
                                                 {"sluice.commit.solo_max", solo_max},
                                                 {"sluice.commit.on_failure", on_failure}});
    prepared p;
    REQUIRE(w.run(prepare(w.engine(), w.folder().path(), p)) == 0);
    check_failed_group(w, p, root);
    const std::uint64_t failures = w.counter("sluice.commit.failures");
    if (solo_max == "0" || grouping == "filesystem") {
      // One sync for all, where it is shared; those of grouping=filesystem always share it.
      CHECK(failures == (grouping == "each" ? files : 1));
    } else {
      CHECK(failures > 1);
      CHECK(failures <= files);
    }
    check_refusals(w, p, on_failure == "fail_engine");
    p.made.clear();
    p.in = sluice::directory();
  });
}

// Publishes some at once in a directory no block of which the disk can take: nobody's name is
// durable, whoever hears of it first.
void publish_where_no_name_is_kept(world& w, prepared& p, std::size_t round) {
  const std::filesystem::path folder = w.folder().path() / std::to_string(round);
  REQUIRE(std::filesystem::create_directory(folder));
  REQUIRE(w.run(enter(w.engine(), folder, p)) == 0);
  std::vector<int> codes;
  for (std::size_t i = 0; i < together; ++i) {
    w.engine().start(publish_one(p, round * together + i), [&codes](int c) { codes.push_back(c); });
  }
  w.until([&codes] { return codes.size() == together; });
  CHECK(std::ranges::count(codes, 0) == 0);
  CHECK(std::ranges::count(codes, code::durability_unknown) > 0);
  CHECK(w.engine().clear_suspects() == 1);
}

void fail_directories_in(const std::string& backend) {
  CAPTURE(backend);
  // Without a journal an error ends nothing, and is told once by each descriptor.
  on_little_disk("-O ^has_journal -b 4096", [&](const std::string& root) {
    world w({backend, backend, root, true, ""},
            {{"sluice.commit.solo_max", "8"}, {"sluice.pool.threads", "16"}});
    prepared p;
    REQUIRE(w.run(prepare(w.engine(), w.folder().path(), p)) == 0);
    for (const sluice::file& f : p.made) REQUIRE(::fsync(f.fd()) == 0);
    // These take what lost+found gave back: blocks that the disk has room for.
    for (int i = 0; i < 8; ++i)
      REQUIRE(
          std::filesystem::create_directory(w.folder().path() / ("spare-" + std::to_string(i))));
    faults::fill_disk_below(root);
    for (std::size_t round = 0; round * together < files; ++round)
      publish_where_no_name_is_kept(w, p, round);
    p.made.clear();
    p.in = sluice::directory();
  });
}

}  // namespace

// Of solo publishes: in the lanes names are given while the directory is synced, and the kernel may
// lose the error then (kernel-notes/failed_sync_is_told_once.md).
TEST_CASE("a failed sync of a directory is told to all whose names it was to keep") {
  for (const std::string& backend : support::backends()) fail_directories_in(backend);
}

// Publishers in the lanes, and solo as many as may be.
TEST_CASE("a failed sync is told to every publisher of its group, and nothing has a name") {
  for (const std::string& backend : support::backends()) {
    for (const std::string solo_max : {"0", "4"}) {
      for (const std::string grouping : {"each", "filesystem", "auto"}) {
        for (const std::string on_failure : {"fail_file", "fail_engine"})
          fail_in(backend, grouping, on_failure, solo_max);
      }
    }
  }
}

TEST_CASE("a failed sync is told to all who commit the file, and to who commits it beside them") {
  for (const std::string& backend : support::backends()) {
    for (const std::string on_failure : {"fail_file", "fail_engine"}) {
      CAPTURE(backend);
      CAPTURE(on_failure);
      on_little_disk({}, [&](const std::string& root) {
        world w({backend, backend, root, true, ""}, {{"sluice.commit.on_failure", on_failure}});
        prepared p;
        REQUIRE(w.run(prepare(w.engine(), w.folder().path(), p)) == 0);
        faults::fill_disk_below(root);
        std::vector<int> codes;
        for (std::size_t i = 0; i < 3 * together; ++i)
          w.engine().start(commit_one(p, i % 3), [&codes](int c) { codes.push_back(c); });
        w.until([&codes] { return codes.size() == 3 * together; });
        CHECK(codes == std::vector<int>(3 * together, code::durability_unknown));
        CHECK(w.counter("sluice.commit.waiters") == 3 * together);
        CHECK(w.counter("sluice.commit.failures") == 3);  // one sync for each file
        CHECK(w.counter("sluice.commit.suspects") == 1);
        p.made.clear();
        p.in = sluice::directory();
      });
    }
  }
}
