// Copies on filesystems of their own: full ones, and such as share blocks.
#include "faults/disk.hpp"
#include "transfer/copy_ways.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace copy_ways;

constexpr std::uint64_t mib = 1 << 20;

// check(world) on every backend, in a child with a filesystem of its own mounted by mount(folder).
template <class Mount, class Check>
void on_disk(Mount mount, Check check) {
  const std::unique_ptr<support::temp_dir> parent =
      temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  faults::in_child([&] {
    mount(root);
    for (const std::string& backend : support::backends()) {
      CAPTURE(backend);
      world w({backend, backend, root, false, ""});
      check(w);
    }
  });
}

void copy_to_full_disk(world& w) {
  const std::vector<std::byte> content = pattern(1, 0, 5 * mib);
  for (const std::string& path : copy_ways::all()) {
    CAPTURE(path);
    REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
    make_file(w.at("source"), content);
    const copied c = copy_range(w, range(content.size()));
    CHECK(c.failure() == ENOSPC);
    const std::uint64_t equal = c.progress.bytes;
    CHECK(equal < content.size());
    CHECK(same_bytes(bytes_at(w.at("target"), 0, equal), std::span(content).first(equal)));
    std::filesystem::remove(w.at("target"));
    const copied less = copy_range(w, range(mib));
    CHECK(less.failure() == 0);
    std::filesystem::remove(w.at("target"));
    std::filesystem::remove(w.at("source"));
  }
}

void share(world& w) {
  const std::vector<std::byte> content = pattern(2, 0, 3 * mib + 1001);
  make_file(w.at("source"), content);
  set_size(w.at("source"), 4 * mib + 5);
  REQUIRE(w.engine().set_knob("sluice.copy.path", "reflink").has_value());
  const copied whole = copy_range(w, range(4 * mib + 5));
  REQUIRE(whole.failure() == 0);
  CHECK(whole.way() == "reflink");
  CHECK(whole.outcome->copies == 0);
  CHECK(w.counter("sluice.copy.reflink_bytes") == 4 * mib + 5);
  CHECK(same_bytes(content_of(w.at("target")), content_of(w.at("source"))));
  CHECK(occupied(w.at("target")) <= occupied(w.at("source")));

  // A range that ends in the middle of a block, in the middle of both files.
  const copied refused = copy_range(w, range(mib + 1));
  REQUIRE(refused.failure() == sluice::code::path_unavailable);
  CHECK(std::string(refused.outcome.error().where) == "a part of a block cannot be shared");
  REQUIRE(w.engine().set_knob("sluice.copy.path", "auto").has_value());
  const copied mixed = copy_range(w, range(mib + 1, 4096, 8192));
  REQUIRE(mixed.failure() == 0);
  CHECK(mixed.way() == "reflink");
  CHECK(std::string(mixed.outcome->reason) == "auto: shared, but for a part of a block");
  CHECK(mixed.outcome->bytes == mib + 1);
  CHECK(same_bytes(bytes_at(w.at("target"), 8192, mib + 1),
                   std::span(content).subspan(4096, mib + 1)));
  // One that begins in the middle of a block shares none.
  const copied odd = copy_range(w, range(mib, 1, 8192));
  REQUIRE(odd.failure() == 0);
  CHECK(odd.way() == "copy_file_range");
  CHECK(std::string(odd.outcome->reason) == "auto: the blocks cannot be shared");
  CHECK(same_bytes(bytes_at(w.at("target"), 8192, mib), std::span(content).subspan(1, mib)));

  // What is written to one of them later is not seen in the other.
  put_at(w.at("source"), 0, pattern(3, 0, 4096));
  CHECK(same_bytes(bytes_at(w.at("target"), 0, 4096), std::span(content).first(4096)));
  copy_at_random(w, 6, 20, 4096);
  copy_at_random(w, 7, 10, 1);
}

// Cancelled after any number of turns; only whole steps are counted, and those are equal.
void share_and_cancel(world& w, std::uint64_t length, const std::vector<std::uint64_t>& places,
                      std::size_t piece) {
  int cancelled = 0;
  for (int turns = 0; turns < 9; ++turns) {
    CAPTURE(turns);
    copied c;
    const sluice::task_handle handle =
        w.engine().start(copy_task(w, range(length)), [&c](copied told) { c = std::move(told); });
    for (int i = 0; i < turns; ++i) w.engine().run_once(1ms);
    w.engine().cancel(handle);
    w.until([&w] { return w.engine().task_count() == 0; });
    w.settle();
    const std::uint64_t equal = c.progress.bytes;
    CHECK((c.failure() == 0 ? equal == length : equal % (1 << 30) == 0));
    if (c.failure() != 0) CHECK(c.failure() == ECANCELED);
    cancelled += c.failure() != 0 ? 1 : 0;
    for (const std::uint64_t at : places) {
      if (at + piece > equal) continue;
      CHECK(same_bytes(bytes_at(w.at("target"), at, piece), pattern(14, at, piece)));
    }
    std::filesystem::remove(w.at("target"));
  }
  CHECK(cancelled > 1);
}

// Blocks are shared 1 GiB at a time. Holes take no space, so 5 GiB fit anywhere.
void share_5_gib(world& w) {
  constexpr std::uint64_t gib = 1 << 30;
  constexpr std::uint64_t length = 5 * gib + 321;
  constexpr std::size_t piece = 9000;
  set_size(w.at("source"), length);
  const std::vector<std::uint64_t> places{
      0, gib - 4000, 2 * gib, 3 * gib - piece, 4 * gib + 12'345, length - piece};
  for (const std::uint64_t at : places) put_at(w.at("source"), at, pattern(14, at, piece));
  for (const auto& [path, cache] : {std::pair{"reflink", sluice::cache_policy::automatic},
                                    std::pair{"auto", sluice::cache_policy::direct}}) {
    CAPTURE(path);
    REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
    put_at(w.at("target"), 3 * gib, pattern(15, 0, piece));  // where the source has a hole
    sluice::copy_options options = range(length);
    options.cache = cache;
    const copied c = copy_range(w, options);
    REQUIRE(c.failure() == 0);
    CHECK(c.way() == "reflink");
    CHECK(c.outcome->bytes == length);
    CHECK(c.outcome->ops == 6);
    CHECK(c.outcome->misrouted_bytes == 0);
    CHECK(std::filesystem::file_size(w.at("target")) == length);
    for (const std::uint64_t at : places) {
      CHECK(same_bytes(bytes_at(w.at("target"), at, piece), pattern(14, at, piece)));
    }
    CHECK(same_bytes(bytes_at(w.at("target"), 3 * gib, piece), std::vector<std::byte>(piece)));
    CHECK(occupied(w.at("target")) < mib);
    std::filesystem::remove(w.at("target"));
  }
  REQUIRE(w.engine().set_knob("sluice.copy.path", "reflink").has_value());
  share_and_cancel(w, length, places, piece);
}

}  // namespace

TEST_CASE("on a full disk a copy ends with ENOSPC, and counts what is equal") {
  on_disk([](const std::string& at) { faults::mount_tmpfs(at, 8 * mib); }, copy_to_full_disk);
  on_disk([](const std::string& at) { faults::mount_ext4(at, 8 * mib); }, copy_to_full_disk);
}

TEST_CASE("XFS shares the blocks, and what it cannot share is copied") {
  on_disk([](const std::string& at) { faults::mount_sharing(at, "xfs"); }, share);
}

TEST_CASE("btrfs shares the blocks, and what it cannot share is copied") {
  on_disk([](const std::string& at) { faults::mount_sharing(at, "btrfs"); }, share);
}

TEST_CASE("5 GiB are shared step by step, on XFS and on btrfs, and a cancel comes between two") {
  on_disk([](const std::string& at) { faults::mount_sharing(at, "xfs"); }, share_5_gib);
  on_disk([](const std::string& at) { faults::mount_sharing(at, "btrfs"); }, share_5_gib);
}

// A size that is not known is no size of 0: the copy would leave what the target has there.
TEST_CASE("files that cannot be asked for their size end the copy before its first step") {
  for (const std::string& backend : support::backends()) {
    faults::on_fault_fs({.keep_no_attributes = true}, [&backend](support::fault_fs& disk) {
      CAPTURE(backend);
      const std::string here = std::filesystem::current_path().string();
      world w({backend, backend, here, false, ""});
      const std::string target = disk.mount_point() + "/target";
      put_at(w.at("source"), 0, pattern(8, 0, 5000));
      set_size(w.at("source"), mib);
      const std::vector<std::byte> content = content_of(w.at("source"));
      for (const char* path : {"auto", "copy"}) {
        CAPTURE(path);
        REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
        int failures = 0;
        bool all_answered = false;
        for (std::uint64_t nth = 1; nth < 60 && !all_answered; ++nth) {
          CAPTURE(nth);
          put_at(target, 0, pattern(9, 0, mib));
          sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY);
          sluice::file into = adopt_file(w.engine(), target, O_RDWR);
          disk.orders().reset();
          disk.orders().fail(support::request_kind::attributes, nth, EIO);
          const copied c = w.run(copy_once(std::move(from), std::move(into), range(mib)));
          w.settle();
          all_answered = disk.orders().of(support::request_kind::attributes).seen < nth;
          disk.orders().reset();
          failures += c.failure() == 0 ? 0 : 1;
          CHECK((c.failure() == 0 || c.failure() == EIO));
          if (c.failure() == 0) CHECK(same_bytes(content_of(target), content));
        }
        CHECK(all_answered);
        CHECK(failures > 0);
      }
    });
  }
}

// The kernel still has the memory of the write that hangs, so the end waits for it; nothing more is
// begun after the deadline.
TEST_CASE("a copy to a disk that hangs ends by its deadline as soon as the disk answers") {
  for (const std::string& backend : support::backends()) {
    faults::on_fault_fs({}, [&backend](support::fault_fs& disk) {
      CAPTURE(backend);
      world w({backend, backend, std::filesystem::current_path().string(), false, ""},
              {{"sluice.copy.path", "copy"}, {"sluice.memory.block_bytes", "64K"}});
      const std::vector<std::byte> content = pattern(12, 0, mib);
      make_file(w.at("source"), content);
      const std::string target = disk.mount_point() + "/target";
      disk.orders().reset();
      disk.orders().of(support::request_kind::write).stop_at = 5;
      sluice::copy_options options = range(content.size());
      options.deadline = 100ms;
      copied hung;
      w.engine().start(copy_once(adopt_file(w.engine(), w.at("source"), O_RDONLY),
                                 adopt_file(w.engine(), target, O_RDWR | O_CREAT), options),
                       [&hung](copied c) {
                         c.told = hung.told + 1;
                         hung = std::move(c);
                       });
      w.until([&] { return disk.has_stopped(std::chrono::milliseconds(0)) || hung.told > 0; });
      // Others are served meanwhile, long past the deadline.
      const auto last = std::chrono::steady_clock::now() + 300ms;
      while (std::chrono::steady_clock::now() < last) {
        CHECK(w.run(copy_task(w, range(mib))).failure() == 0);
      }
      CHECK(hung.told == 0);
      disk.resume();
      w.until([&hung] { return hung.told > 0; });
      CHECK(hung.told == 1);
      CHECK(hung.failure() == ETIMEDOUT);
      const std::uint64_t equal = hung.progress.bytes;
      CHECK(equal >= 4 * 64 * 1024);
      CHECK(equal <= 5 * 64 * 1024);
      CHECK(same_bytes(content_of(target), std::span(content).first(equal)));
      w.settle();
    });
  }
}

// By read and write it would come out right, but not by the way that was asked for.
TEST_CASE("a hole for a target that cannot punch goes the forced way, or is refused") {
  for (const std::string& backend : support::backends()) {
    faults::on_fault_fs({}, [&backend](support::fault_fs& disk) {
      CAPTURE(backend);
      world w({backend, backend, std::filesystem::current_path().string(), false, ""});
      const std::string target = disk.mount_point() + "/target";
      set_size(w.at("source"), 100'000);
      const auto copy_by = [&](const char* path) {
        REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
        put_at(target, 0, pattern(9, 0, 100'000));
        sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY);
        sluice::file into = adopt_file(w.engine(), target, O_RDWR);
        disk.orders().reset();
        disk.orders().fail(support::request_kind::allocate, 1, 1000, EOPNOTSUPP);
        const copied c = w.run(copy_once(std::move(from), std::move(into), range(100'000)));
        w.settle();
        return c;
      };
      const copied forced = copy_by("copy_file_range");
      REQUIRE(forced.failure() == sluice::code::path_unavailable);
      CHECK(std::string(forced.outcome.error().where) ==
            "the kernel cannot copy between these two");
      CHECK(forced.progress.bytes == 0);
      CHECK(same_bytes(content_of(target), pattern(9, 0, 100'000)));
      const copied chosen = copy_by("auto");
      REQUIRE(chosen.failure() == 0);
      CHECK(chosen.way() == "copy");
      CHECK(std::string(chosen.outcome->reason) ==
            "auto: the kernel cannot copy between these two");
      CHECK(same_bytes(content_of(target), std::vector<std::byte>(100'000)));
    });
  }
}

TEST_CASE("a copy whose dropped pages cannot be written back says so, and vouches for no byte") {
  const std::vector<std::byte> content = pattern(10, 0, mib);
  for (const std::string& backend : support::backends()) {
    faults::on_fault_fs({.writeback = true}, [&](support::fault_fs& disk) {
      CAPTURE(backend);
      world w({backend, backend, std::filesystem::current_path().string(), false, ""},
              {{"sluice.copy.path", "copy"}, {"sluice.storage.drop_bytes", "64K"}});
      make_file(w.at("source"), content);
      for (const int error : {EIO, ENOSPC}) {
        CAPTURE(error);
        const std::string target = disk.mount_point() + "/target";
        sluice::file from = adopt_file(w.engine(), w.at("source"), O_RDONLY);
        sluice::file into = adopt_file(w.engine(), target, O_RDWR | O_CREAT);
        disk.orders().reset();
        disk.orders().fail(support::request_kind::write, 1, error);
        const sluice::copy_options options{.length = content.size(),
                                           .cache = sluice::cache_policy::drop_behind};
        const copied c = w.run(copy_once(std::move(from), std::move(into), options));
        w.settle();
        CHECK(c.failure() == error);
        CHECK(c.progress.bytes == 0);
        std::filesystem::remove(target);
      }
    });
  }
}
