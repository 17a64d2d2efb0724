#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <memory>

#include "conformance/suite.hpp"
#include "storage/file_state.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr sluice::publish_options stored_keep{sluice::existing_name::keep,
                                              sluice::durability::stored};

// Creates a file in the world's folder with `content`, and publishes it under each of `names`.
sluice::task<std::vector<int>> publish_as(sluice::engine& e, std::filesystem::path folder,
                                          const std::vector<std::byte>& content,
                                          std::vector<std::string> names,
                                          sluice::publish_options options) {
  std::vector<int> codes;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return codes;
  sluice::result<sluice::file> made = co_await in->create();
  if (!made) co_return codes;
  sluice::op_await writing = made->write(content, 0);
  const sluice::result<std::size_t> written = co_await writing;
  if (!written) co_return codes;
  for (const std::string& name : names) {
    const sluice::result<void> done = co_await sluice::publish(*made, *in, name, options);
    codes.push_back(done ? 0 : done.error().code);
  }
  co_return codes;
}

std::vector<int> publish_in(world& w, const std::vector<std::byte>& content,
                            std::vector<std::string> names, sluice::publish_options options = {}) {
  std::vector<int> codes =
      w.run(publish_as(w.engine(), w.folder().path(), content, std::move(names), options));
  w.settle();
  return codes;
}

using names_list = std::vector<std::string>;
using codes_list = std::vector<int>;

}  // namespace

TEST_CASE("a published file has its name and its whole content, and no other name is left") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    for (const bool durable : {false, true}) {
      sluice::publish_options options;
      if (!durable) options.wanted = sluice::durability::stored;
      const std::vector<std::byte> content = pattern(1, 0, 70'001);
      const std::uint64_t syncs = w.counter("sluice.commit.syncs");
      CHECK(publish_in(w, content, {"name"}, options) == codes_list{0});
      CHECK(w.names() == names_list{"name"});
      CHECK(same_bytes(content_of(w.at("name")), content));
      // Durable is one sync of the file and one of the directory; stored is none.
      CHECK(w.counter("sluice.commit.syncs") - syncs == (durable ? 2 : 0));
      std::filesystem::remove(w.at("name"));
    }
    CHECK(w.counter("sluice.publish.count") == 2);
  }
}

TEST_CASE("an existing name is replaced whole, or kept") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> first = pattern(1, 0, 100'000);
    const std::vector<std::byte> second = pattern(2, 0, 300);
    CHECK(publish_in(w, first, {"name"}) == codes_list{0});
    CHECK(publish_in(w, second, {"name"}, stored_keep) == codes_list{EEXIST});
    CHECK(w.names() == names_list{"name"});
    CHECK(same_bytes(content_of(w.at("name")), first));
    CHECK(publish_in(w, second, {"name"}) == codes_list{0});
    CHECK(w.names() == names_list{"name"});
    CHECK(same_bytes(content_of(w.at("name")), second));
    CHECK(w.counter("sluice.publish.replaced") == 1);
    CHECK(w.counter("sluice.publish.count") == 2);
  }
}

TEST_CASE("a file is published once") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    CHECK(publish_in(w, pattern(1, 0, 10), {"one", "two", "one"}) == codes_list{0, EINVAL, EINVAL});
    CHECK(w.names() == names_list{"one"});
  }
}

TEST_CASE("a bad name is refused, and the file can still be published under a good one") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::string long_name(255, 'x');
    const std::string too_long(256, 'x');
    const std::string with_nul("a\0b", 3);
    CHECK(publish_in(w, pattern(1, 0, 10),
                     {"", ".", "..", "a/b", "/a", "a/", with_nul, too_long, long_name}) ==
          codes_list{EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, ENAMETOOLONG, 0});
    CHECK(w.names() == names_list{long_name});
  }
}

TEST_CASE("a directory is not replaced by a file: EISDIR, and no temporary name stays") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    REQUIRE(std::filesystem::create_directory(w.at("taken")));
    CHECK(publish_in(w, pattern(1, 0, 10), {"taken"}) == codes_list{EISDIR});
    CHECK(w.names() == names_list{"taken"});
    CHECK(publish_in(w, pattern(1, 0, 10), {"taken"}, stored_keep) == codes_list{EEXIST});
    CHECK(w.names() == names_list{"taken"});
    // Refused once, the same file takes another name.
    CHECK(publish_in(w, pattern(1, 0, 10), {"taken", "free"}) == codes_list{EISDIR, 0});
    CHECK(w.names() == names_list{"free", "taken"});
    CHECK(w.counter("sluice.publish.replaced") == 0);
  }
}

TEST_CASE("a symbolic link is replaced itself, not what it points to") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> old = pattern(1, 0, 10);
    const std::vector<std::byte> content = pattern(2, 0, 20);
    make_file(w.at("target"), old);
    std::filesystem::create_symlink("target", w.at("link"));
    CHECK(publish_in(w, content, {"link"}) == codes_list{0});
    CHECK(!std::filesystem::is_symlink(w.at("link")));
    CHECK(same_bytes(content_of(w.at("link")), content));
    CHECK(same_bytes(content_of(w.at("target")), old));
  }
}

TEST_CASE("a created file that is dropped, closed or never published leaves no name") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const auto create = [](sluice::engine& e, std::filesystem::path folder,
                           bool close) -> sluice::task<int> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
      sluice::result<sluice::file> made = co_await in->create();
      if (!made) co_return made.error().code;
      if (!close) co_return 0;
      const sluice::result<void> closed = co_await made->close();
      co_return closed ? 0 : closed.error().code;
    };
    for (const bool close : {false, true}) {
      CHECK(w.run(create(w.engine(), w.folder().path(), close)) == 0);
      w.settle();
      CHECK(w.names().empty());
    }
  }
}

TEST_CASE("a file is published into another directory, but not into another filesystem") {
  for (const setting& on : every_setting_and_fallback()) {
    if (on.folder == "/dev/shm" || !is_there("/dev/shm")) continue;
    CAPTURE(on.name);
    world w(on);
    REQUIRE(std::filesystem::create_directory(w.at("other")));
    const std::unique_ptr<support::temp_dir> elsewhere = temp_dir_in("/dev/shm");
    const auto move = [](sluice::engine& e, std::filesystem::path from,
                         std::filesystem::path to) -> sluice::task<int> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, from.string());
      sluice::result<sluice::directory> into = co_await sluice::directory::open(e, to.string());
      sluice::result<sluice::file> made = co_await in->create();
      if (!made) co_return made.error().code;
      const sluice::result<void> done = co_await sluice::publish(*made, *into, "name");
      co_return done ? 0 : done.error().code;
    };
    CHECK(w.run(move(w.engine(), w.folder().path(), w.at("other"))) == 0);
    CHECK(w.run(move(w.engine(), w.folder().path(), elsewhere->path())) == EXDEV);
    w.settle();
    CHECK(w.names() == names_list{"other"});
    CHECK(std::filesystem::exists(w.at("other/name")));
    CHECK(elsewhere->entry_count() == 0);
  }
}

TEST_CASE("of many publishers of one name one wins whole") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    constexpr std::size_t publishers = 12;
    std::vector<std::vector<std::byte>> contents;
    for (std::size_t i = 0; i < publishers; ++i) {
      contents.push_back(pattern(100 + i, 0, 10'000 + 977 * i));
    }
    for (const bool keep : {false, true}) {
      std::vector<int> codes;
      sluice::publish_options options;
      if (keep) options.existing = sluice::existing_name::keep;
      for (const std::vector<std::byte>& content : contents) {
        w.engine().start(
            publish_as(w.engine(), w.folder().path(), content, {"name"}, options),
            [&codes](const std::vector<int>& c) { codes.push_back(c.empty() ? -1 : c[0]); });
      }
      w.until([&codes] { return codes.size() == publishers; });
      w.settle();
      const auto won = std::ranges::count(codes, 0);
      CHECK(won == (keep ? 1 : static_cast<std::ptrdiff_t>(publishers)));
      CHECK(std::ranges::count(codes, EEXIST) == static_cast<std::ptrdiff_t>(publishers) - won);
      CHECK(w.names() == names_list{"name"});
      const std::vector<std::byte> seen = content_of(w.at("name"));
      CHECK(std::ranges::any_of(
          contents, [&seen](const std::vector<std::byte>& c) { return same_bytes(c, seen); }));
      std::filesystem::remove(w.at("name"));
    }
  }
}

TEST_CASE("a cancelled publish says what became of the name") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> content = pattern(3, 0, 50'000);
    const std::vector<std::byte> old = pattern(4, 0, 60'000);
    for (const bool replacing : {false, true}) {
      for (int turns = 0; turns < 30; ++turns) {
        CAPTURE(turns);
        if (replacing) make_file(w.at("name"), old);
        std::optional<std::vector<int>> codes;
        const sluice::task_handle handle =
            w.engine().start(publish_as(w.engine(), w.folder().path(), content, {"name"}, {}),
                             [&codes](std::vector<int> c) { codes = std::move(c); });
        for (int i = 0; i < turns && !codes; ++i) w.engine().run_once(1ms);
        w.engine().cancel(handle);
        w.until([&codes] { return codes.has_value(); });
        w.settle();
        const int told = codes->empty() ? ECANCELED : codes->front();
        CAPTURE(told);
        CHECK((told == 0 || told == ECANCELED || told == code::durability_unknown));
        const bool named = told != ECANCELED;
        CHECK(w.names() == (named || replacing ? names_list{"name"} : names_list{}));
        if (named || replacing) {
          CHECK(same_bytes(content_of(w.at("name")), named ? content : old));
          std::filesystem::remove(w.at("name"));
        }
      }
    }
  }
}

namespace {

std::vector<std::byte> object(std::size_t number) {
  return pattern(7000 + number, 0, 1000 + number % 3000);
}

sluice::task<std::vector<int>> publish_object(sluice::engine& e, std::filesystem::path folder,
                                              std::size_t number) {
  const std::vector<std::byte> content = object(number);
  std::vector<std::string> names(1, "object-" + std::to_string(number));
  const sluice::publish_options options;
  co_return co_await publish_as(e, std::move(folder), content, std::move(names), options);
}

struct many {
  std::size_t ended = 0;
  std::vector<int> codes;  // those that are not 0
};

// Creates, writes and publishes one object per number, all at once.
void publish_all(world& w, std::size_t count, many& seen) {
  for (std::size_t i = 0; i < count; ++i) {
    w.engine().start(publish_object(w.engine(), w.folder().path(), i),
                     [&seen](const std::vector<int>& c) {
                       ++seen.ended;
                       if (c != codes_list{0}) seen.codes.push_back(c.empty() ? -1 : c[0]);
                     });
  }
  w.until([&] { return seen.ended == count; });
  w.settle();
}

void check_all(world& w, std::size_t count) {
  CHECK(w.names().size() == count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = "object-" + std::to_string(i);
    if (!same_bytes(content_of(w.at(name)), object(i))) FAIL_CHECK("content of ", name);
  }
}

}  // namespace

namespace {

// Objects that are created and written, and have no name yet.
struct prepared {
  sluice::directory in;
  std::vector<sluice::file> made;
};

sluice::task<int> prepare_objects(sluice::engine& e, std::filesystem::path folder,
                                  std::size_t count, prepared& p) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return in.error().code;
  p.in = std::move(*in);
  for (std::size_t i = 0; i < count; ++i) {
    sluice::result<sluice::file> made = co_await p.in.create();
    if (!made) co_return made.error().code;
    const std::vector<std::byte> content = object(i);
    sluice::op_await writing = made->write(content, 0);
    const sluice::result<std::size_t> written = co_await writing;
    if (!written) co_return written.error().code;
    p.made.push_back(std::move(*made));
  }
  co_return 0;
}

prepared prepare(world& w, std::size_t count) {
  prepared p;
  REQUIRE(w.run(prepare_objects(w.engine(), w.folder().path(), count, p)) == 0);
  w.settle();
  return p;
}

sluice::task<int> publish_prepared(prepared& p, std::size_t number) {
  const sluice::result<void> done =
      co_await sluice::publish(p.made[number], p.in, "object-" + std::to_string(number));
  co_return done ? 0 : done.error().code;
}

void begin_publish(world& w, prepared& p, std::size_t number, many& seen) {
  w.engine().start(publish_prepared(p, number), [&seen](int code) {
    ++seen.ended;
    if (code != 0) seen.codes.push_back(code);
  });
}

}  // namespace

TEST_CASE("a publish by itself is one call of a worker") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    for (const support::knob_value shares :
         {support::knob_value{"sluice.commit.solo_max", "1"}, {"sluice.commit.solo_max", "0"}}) {
      CAPTURE(shares.value);
      world w(on, {shares});
      prepared p = prepare(w, 1);
      const std::uint64_t operations = w.counter("sluice.ops.submitted");
      const std::uint64_t calls = w.counter("sluice.pool.tasks");
      many seen;
      begin_publish(w, p, 0, seen);
      w.until([&seen] { return seen.ended == 1; });
      const bool solo = shares.value == "1";
      // Else the data, the name and the directory are one each.
      CHECK(w.counter("sluice.ops.submitted") - operations == (solo ? 1 : 3));
      if (solo) CHECK(w.counter("sluice.pool.tasks") - calls == 1);
      CHECK(seen.codes.empty());
      check_all(w, 1);
      CHECK(w.counter("sluice.commit.waiters") == 2);
      CHECK(w.counter("sluice.commit.syncs") == 2);
      CHECK(w.counter("sluice.publish.batches") == 1);
      CHECK(w.counter("sluice.publish.solo") == (solo ? 1 : 0));
      p = prepared();
      w.settle();
    }
  }
}

TEST_CASE("a publish can date the file by its own moment, to the nanosecond") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    for (const char* solo_max : {"0", "1"}) {
      world w(on, {{"sluice.commit.solo_max", solo_max}});
      for (const sluice::durability wanted :
           {sluice::durability::durable, sluice::durability::stored}) {
        sluice::publish_options options;
        options.wanted = wanted;
        options.when = sluice::modified::now;
        timespec before{};
        timespec after{};
        REQUIRE(::clock_gettime(CLOCK_REALTIME, &before) == 0);
        CHECK(publish_in(w, pattern(7, 0, 100), {"name"}, options) == codes_list{0});
        REQUIRE(::clock_gettime(CLOCK_REALTIME, &after) == 0);
        struct stat info{};
        REQUIRE(::stat(w.at("name").c_str(), &info) == 0);
        const auto in_ns = [](const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; };
        CHECK(in_ns(info.st_mtim) > in_ns(before));  // the kernel's tick would be before it
        CHECK(in_ns(info.st_mtim) < in_ns(after));
      }
    }
  }
}

TEST_CASE("those who publish at the same time share syncs and the calls that give names") {
  constexpr std::size_t count = 150;
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    for (const std::string grouping : {"each", "filesystem", "auto"}) {
      CAPTURE(grouping);
      world w(on, {{"sluice.commit.grouping", grouping}});
      many seen;
      publish_all(w, count, seen);
      CHECK(seen.codes.empty());
      check_all(w, count);
      CHECK(w.counter("sluice.publish.count") == count);
      CHECK(w.counter("sluice.commit.waiters") == 2 * count);
      CHECK(w.counter("sluice.commit.failures") == 0);
      CHECK(w.counter("sluice.publish.batches") < count);
      const std::uint64_t by_filesystem = w.counter("sluice.commit.filesystem_syncs");
      const std::uint64_t syncs = w.counter("sluice.commit.syncs");
      if (grouping == "each") {
        CHECK(by_filesystem == 0);
        CHECK(syncs > count);
        CHECK(syncs < 2 * count);  // the directory's are shared all the same
      } else {
        CHECK(by_filesystem > 0);
        CHECK(syncs < count);
      }
    }
  }
}

TEST_CASE("count_max and bytes_max bound what a group holds") {
  constexpr std::size_t count = 60;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const support::knob_value limit :
         {support::knob_value{"sluice.commit.count_max", "5"}, {"sluice.commit.bytes_max", "5K"}}) {
      world w(on, {{"sluice.commit.grouping", "filesystem"}, limit});
      many seen;
      publish_all(w, count, seen);
      CHECK(seen.codes.empty());
      check_all(w, count);
      CHECK(w.counter("sluice.commit.filesystem_syncs") >= count / 5);
    }
  }
}

namespace {

// Publishes one after the other, with turns between them in which a sync could begin. False: so
// late that the delay may have been over, and nothing can be said.
bool publish_in_turn(world& w, prepared& p, std::chrono::milliseconds delay) {
  const auto begun = std::chrono::steady_clock::now();
  const std::uint64_t operations = w.counter("sluice.ops.submitted");
  const auto submitted = [&] { return w.counter("sluice.ops.submitted") - operations; };
  many seen;
  std::uint64_t before_the_last = 0;
  for (std::size_t i = 0; i < p.made.size(); ++i) {
    before_the_last = submitted();
    begin_publish(w, p, i, seen);
    for (int turn = 0; turn < 3; ++turn) w.engine().run_once(0ns);
  }
  const std::uint64_t once_full = submitted();
  const bool in_time = std::chrono::steady_clock::now() - begun < delay / 2;
  w.until([&] { return seen.ended == p.made.size(); });
  CHECK(seen.codes.empty());
  if (!in_time) return false;
  CHECK(before_the_last == 0);
  CHECK(once_full >= 1);  // full: it did not wait for the delay
  return true;
}

}  // namespace

TEST_CASE("a delay gathers publishes that come one after the other, until the group is full") {
  constexpr std::size_t count = 20;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.commit.grouping", "filesystem"},
                 {"sluice.commit.delay_us", "100000"},
                 {"sluice.commit.count_max", std::to_string(count)}});
    bool seen = false;
    for (int attempt = 0; !seen && attempt < 20; ++attempt) {
      prepared p = prepare(w, count);
      const std::uint64_t syncs = w.counter("sluice.commit.filesystem_syncs");
      seen = publish_in_turn(w, p, 100ms);
      if (seen) CHECK(w.counter("sluice.commit.filesystem_syncs") - syncs == 1);
      check_all(w, count);
      p = prepared();
      w.settle();
    }
    CHECK(seen);
    const auto begun = std::chrono::steady_clock::now();
    publish_in(w, object(0), {"alone"});
    CHECK(std::chrono::steady_clock::now() - begun >= 100ms);
    CHECK(w.names().size() == count + 1);
  }
}

TEST_CASE("thousands of publishes at once, and as many names") {
  constexpr std::size_t count = 2000;
  constexpr std::size_t group = 256;
  constexpr std::size_t groups = (count + group - 1) / group;
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit before = limit;
  limit.rlim_cur = limit.rlim_max;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  if (limit.rlim_cur > 3 * count) {
    for (const setting& on : every_setting()) {
      CAPTURE(on.name);
      world w(on, {{"sluice.commit.solo_max", "0"},
                   {"sluice.commit.count_max", std::to_string(group)},
                   {"sluice.loop.completions_per_turn", std::to_string(4 * count)}});
      prepared p = prepare(w, count);
      many seen;
      for (std::size_t i = 0; i < count; ++i) begin_publish(w, p, i, seen);
      w.until([&seen] { return seen.ended == count; });
      CHECK(seen.codes.empty());
      check_all(w, count);
      // They all waited when the first sync began. Names and the directory are for those whose data
      // is durable by then, so that one call may be for several groups.
      const std::uint64_t by_filesystem = w.counter("sluice.commit.filesystem_syncs");
      CHECK(by_filesystem == groups);
      CHECK(w.counter("sluice.publish.batches") <= groups);
      CHECK(w.counter("sluice.commit.syncs") - by_filesystem <= groups);
      CHECK(w.counter("sluice.commit.waiters") == 2 * count);
      p = prepared();
      w.settle();
    }
  } else {
    MESSAGE("too few descriptors for thousands of files");
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("publishers and removers of one directory share its sync") {
  constexpr std::size_t count = 40;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (std::size_t i = 0; i < count; ++i) make_file(w.at("old-" + std::to_string(i)), {});
    const auto remove = [](sluice::engine& e, std::filesystem::path folder,
                           std::string name) -> sluice::task<int> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
      const sluice::result<void> done = co_await in->remove(std::move(name));
      co_return done ? 0 : done.error().code;
    };
    std::size_t removed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      w.engine().start(remove(w.engine(), w.folder().path(), "old-" + std::to_string(i)),
                       [&removed](int c) { removed += c == 0 ? 1U : 0U; });
    }
    many seen;
    publish_all(w, count, seen);
    CHECK(seen.codes.empty());
    CHECK(removed == count);
    check_all(w, count);
    CHECK(w.counter("sluice.commit.waiters") == 3 * count);
    CHECK(w.counter("sluice.commit.syncs") < count);  // either kind by itself would need as many
  }
}
