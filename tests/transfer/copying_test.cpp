// The steps of a copy between files: what is equal afterwards, what stays a hole, how it ends
// early, and what it leaves in the page cache.
#include "support/cached_pages.hpp"
#include "transfer/copy_ways.hpp"

namespace {

using namespace copy_ways;
using sluice::cache_policy;
namespace code = sluice::code;

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t gib = 1 << 30;

std::uint64_t cached_in(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  const std::uint64_t cached = support::cached_bytes(fd, 0, std::filesystem::file_size(path));
  ::close(fd);
  return cached;
}

void sync_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::fsync(fd) == 0);
  ::close(fd);
}

// Cancels a copy of the source's beginning after so many turns; whether that came in time. Told
// once, and what is counted is equal.
bool was_cancelled(world& w, sluice::copy_options options, std::span<const std::byte> content,
                   int turns) {
  copied last;
  const sluice::task_handle handle = w.engine().start(copy_task(w, options), [&last](copied ended) {
    ended.told = last.told + 1;
    last = std::move(ended);
  });
  for (int i = 0; i < turns && last.told == 0; ++i) w.engine().run_once(1ms);
  w.engine().cancel(handle);
  w.until([&last] { return last.told > 0; });
  w.settle();
  CHECK(last.told == 1);
  if (last.failure() != 0) CHECK(last.failure() == ECANCELED);
  const std::uint64_t equal = last.progress.bytes;
  CHECK(same_bytes(bytes_at(w.at("target"), 0, equal), content.first(equal)));
  std::filesystem::remove(w.at("target"));
  return last.failure() != 0;
}

}  // namespace

TEST_CASE("every length around three pages is copied, and the receipt says how") {
  for_each({}, [](world& w, const std::string& path) {
    for (const std::uint64_t edge : {0U, 512U, 4096U, 8192U, 12'288U}) {
      for (const std::uint64_t length : {edge, edge + 1, edge + 777}) {
        CAPTURE(length);
        const std::vector<std::byte> content = pattern(length, 0, length);
        make_file(w.at("source"), content);
        const copied c = copy_range(w, range(length));
        REQUIRE(c.failure() == 0);
        CHECK(same_bytes(content_of(w.at("target")), content));
        CHECK(c.outcome->bytes == length);
        if (length > 0) {
          const bool by_kernel = path != "copy";
          CHECK(c.way() == (by_kernel ? "copy_file_range" : "copy"));
          CHECK(c.outcome->copies == (by_kernel ? 1 : 2));
          CHECK(c.outcome->ops >= 1);
          const std::string reason = c.outcome->reason;
          CHECK(reason == (path == "auto" ? "auto: the blocks cannot be shared"
                                          : "forced by sluice.copy.path=" + path));
        }
        std::filesystem::remove(w.at("source"));
        std::filesystem::remove(w.at("target"));
      }
    }
    CHECK((w.counter("sluice.copy.copied_bytes") > 0) == (path == "copy"));
    CHECK((w.counter("sluice.copy.range_bytes") > 0) == (path != "copy"));
    CHECK(w.counter("sluice.copy.transfers") == 15);
  });
}

TEST_CASE("random ranges between files with holes come out as a model of them") {
  for_each({{"sluice.copy.chunk_bytes", "12345"}},
           [](world& w, const std::string&) { copy_at_random(w, 5, 40, 1); });
}

TEST_CASE("a sparse file of more than 4 GiB stays sparse, whatever the target had there") {
  for_each({}, [](world& w, const std::string&) {
    constexpr std::uint64_t length = 5 * gib + 4097;
    set_size(w.at("source"), length);
    const std::vector<std::byte> island = pattern(1, 0, 100'000);
    for (const std::uint64_t at : {2 * gib - 5000, 4 * gib - 5000, length - island.size()}) {
      put_at(w.at("source"), at, island);
    }
    put_at(w.at("target"), gib, island);  // a hole goes there
    const copied c = copy_range(w, range(length));
    REQUIRE(c.failure() == 0);
    CHECK(c.outcome->bytes == length);
    CHECK(std::filesystem::file_size(w.at("target")) == length);
    CHECK(occupied(w.at("target")) < mib);
    for (const std::uint64_t at : {2 * gib - 5000, 4 * gib - 5000, length - island.size()}) {
      CHECK(same_bytes(bytes_at(w.at("target"), at, island.size()), island));
    }
    CHECK(same_bytes(bytes_at(w.at("target"), gib, island.size()),
                     std::vector<std::byte>(island.size())));
    CHECK(w.counter("sluice.copy.hole_bytes") > 4 * gib);
  });
}

TEST_CASE("a hole at the end of the range makes the target as long") {
  for_each({}, [](world& w, const std::string&) {
    put_at(w.at("source"), 0, pattern(2, 0, 5000));
    set_size(w.at("source"), 3 * mib);
    const copied c = copy_range(w, range(2 * mib, 0, 100));
    REQUIRE(c.failure() == 0);
    CHECK(std::filesystem::file_size(w.at("target")) == 2 * mib + 100);
    CHECK(same_bytes(bytes_at(w.at("target"), 100, 5000), pattern(2, 0, 5000)));
  });
}

TEST_CASE("a copy for which no block becomes free says ENOBUFS") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.copy.path", "copy"}, {"sluice.receive.timeout_ms", "50"}});
    make_file(w.at("source"), pattern(2, 0, 5000));
    std::vector<sluice::lease> taken;
    while (sluice::lease one = w.engine().core().blocks().try_take()) {
      taken.push_back(std::move(one));
    }
    const copied c = w.run(copy_task(w, range(5000)));
    CHECK(c.failure() == ENOBUFS);
    CHECK(c.progress.bytes == 0);
    taken.clear();
  }
}

TEST_CASE(
    "a deadline counts while a copy waits for a block, too, and leaves what is counted equal") {
  const setting on = every_setting().front();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w({backend, backend, on.folder, false, ""}, {{"sluice.copy.path", "copy"}});
    const std::vector<std::byte> content = pattern(31, 0, 1 << 20);
    make_file(w.at("source"), content);
    std::vector<sluice::lease> taken;
    while (sluice::lease one = w.engine().core().blocks().try_take()) {
      taken.push_back(std::move(one));
    }
    sluice::copy_options options = range(content.size());
    options.deadline = 50ms;
    const auto begun = std::chrono::steady_clock::now();
    const copied c = w.run(copy_task(w, options));
    CHECK(c.failure() == ETIMEDOUT);
    CHECK(std::string(c.outcome.error().where) == "the deadline has passed");
    CHECK(std::chrono::steady_clock::now() - begun >= 45ms);
    CHECK(c.progress.bytes == 0);
    taken.clear();
    w.settle();
    // As long as it takes, and each policy.
    for (const cache_policy cache : {cache_policy::automatic, cache_policy::drop_behind}) {
      options.cache = cache;
      for (std::chrono::nanoseconds deadline = 10us; deadline < 20s; deadline *= 3) {
        CAPTURE(deadline.count());
        std::filesystem::remove(w.at("target"));
        options.deadline = deadline;
        const copied some = copy_range(w, options);
        CHECK((some.failure() == 0 || some.failure() == ETIMEDOUT));
        const std::uint64_t equal = some.progress.bytes;
        CHECK((some.failure() != 0 || equal == content.size()));
        CHECK(same_bytes(bytes_at(w.at("target"), 0, equal), std::span(content).first(equal)));
        if (deadline > 10s) CHECK(some.failure() == 0);
      }
    }
  }
}

TEST_CASE("a source that ends before the range, or is cut meanwhile, is told to the byte") {
  for_each({{"sluice.copy.chunk_bytes", "4K"}, {"sluice.memory.block_bytes", "4K"}},
           [](world& w, const std::string&) {
             const std::vector<std::byte> content = pattern(3, 0, 300'001);
             make_file(w.at("source"), content);
             const copied c = copy_range(w, range(content.size() + 1));
             CHECK(c.failure() == code::end_of_stream);
             CHECK(c.progress.bytes == content.size());
             CHECK(same_bytes(content_of(w.at("target")), content));
             const copied behind = copy_range(w, range(1, content.size() + 10));
             CHECK(behind.failure() == code::end_of_stream);
             CHECK(behind.progress.bytes == 0);

             std::filesystem::remove(w.at("target"));
             copied last;
             w.engine().start(copy_task(w, range(content.size())), [&last](copied ended) {
               ended.told = last.told + 1;
               last = std::move(ended);
             });
             for (int i = 0; i < 6; ++i) w.engine().run_once(1ms);
             set_size(w.at("source"), 5000);
             w.until([&last] { return last.told > 0; });
             const std::uint64_t equal = last.progress.bytes;
             if (last.failure() != 0) CHECK(last.failure() == code::end_of_stream);
             CHECK(equal >= (last.failure() == 0 ? content.size() : 4096));
             CHECK(same_bytes(bytes_at(w.at("target"), 0, 4096), std::span(content).first(4096)));
           });
}

TEST_CASE("cancelled after any number of turns, what is counted is equal") {
  for_each({{"sluice.copy.chunk_bytes", "4K"}, {"sluice.memory.block_bytes", "4K"}},
           [](world& w, const std::string&) {
             const std::vector<std::byte> content = pattern(4, 0, 150'001);
             make_file(w.at("source"), content);
             int cancelled = 0;
             for (int turns = 0; turns < 24; ++turns) {
               CAPTURE(turns);
               if (was_cancelled(w, range(content.size()), content, turns)) ++cancelled;
             }
             CHECK(cancelled > 0);
           });
}

TEST_CASE("a copy leaves in the page cache what its policy says, of both files") {
  const std::vector<std::byte> content = pattern(12, 0, 6 * mib + 321);
  constexpr std::uint64_t two_pages = 8192;
  for (const setting& on : every_setting()) {
    if (!support::can_drop_pages(on.folder)) continue;
    CAPTURE(on.name);
    for (const char* path : {"copy_file_range", "copy"}) {
      CAPTURE(path);
      world w(on, {{"sluice.copy.path", path}, {"sluice.storage.drop_bytes", "1M"}});
      for (const cache_policy policy :
           {cache_policy::cached, cache_policy::drop_behind, cache_policy::dontcache}) {
        CAPTURE(static_cast<int>(policy));
        make_file(w.at("source"), content);
        sync_file(w.at("source"));
        const copied c = copy_range(w, {.length = content.size(), .cache = policy});
        REQUIRE(c.failure() == 0);
        if (policy == cache_policy::cached) {
          CHECK(cached_in(w.at("target")) >= content.size());
        } else {
          CHECK(support::comes_true([&w] { return cached_in(w.at("target")) <= two_pages; }));
          CHECK(support::comes_true([&w] { return cached_in(w.at("source")) <= two_pages; }));
        }
        CHECK(same_bytes(content_of(w.at("target")), content));
        std::filesystem::remove(w.at("source"));
        std::filesystem::remove(w.at("target"));
      }
    }
  }
}

TEST_CASE("a copy that may make no page shares blocks or is refused") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(13, 0, 10'000));
    const sluice::copy_options options{.length = 10'000, .cache = cache_policy::direct};
    // Neither ext4 nor tmpfs shares blocks; where the folder's filesystem does, it is a copy.
    const copied c = copy_range(w, options);
    if (c.failure() == 0) {
      CHECK(c.way() == "reflink");
    } else {
      REQUIRE(c.failure() == code::path_unavailable);
      CHECK(std::string(c.outcome.error().where) == "the blocks cannot be shared");
      CHECK(std::string(c.progress.reason) == "the blocks cannot be shared");
      CHECK(std::filesystem::file_size(w.at("target")) == 0);
    }
    for (const char* path : {"copy_file_range", "copy"}) {
      REQUIRE(w.engine().set_knob("sluice.copy.path", path).has_value());
      const copied refused = copy_range(w, options);
      REQUIRE(refused.failure() == code::path_unavailable);
      CHECK(refused.way() == path);
      CHECK(std::string(refused.progress.reason) == "the cache policy wants no pages in the cache");
    }
  }
}

TEST_CASE("a copy that drops its pages and is cancelled at any time ends once") {
  const std::vector<std::byte> content = pattern(14, 0, 400'001);
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.copy.chunk_bytes", "64K"}, {"sluice.storage.drop_bytes", "64K"}});
    make_file(w.at("source"), content);
    for (int turns = 0; turns < 16; ++turns) {
      CAPTURE(turns);
      const sluice::copy_options options{.length = content.size(),
                                         .cache = cache_policy::drop_behind};
      was_cancelled(w, options, content, turns);
    }
  }
}
