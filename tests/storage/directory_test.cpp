#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "conformance/suite.hpp"
#include "storage/new_directories.hpp"

namespace {

using namespace conformance;

sluice::task<int> open_file(sluice::engine& e, std::filesystem::path root, std::string path) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, root.string());
  sluice::result<sluice::file> f = co_await in->open_file(path);
  co_return f ? 0 : f.error().code;
}

sluice::task<sluice::result<sluice::file_info>> look(sluice::engine& e, std::filesystem::path root,
                                                     std::string path) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, root.string());
  co_return co_await in->look(path);
}

sluice::task<int> open_directory(sluice::engine& e, std::filesystem::path root, std::string path,
                                 sluice::make_parents make) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, root.string());
  sluice::result<sluice::directory> d = co_await in->open_directory(path, make);
  if (!d) co_return d.error().code;
  // It must be a directory to work with, not only a descriptor.
  sluice::result<sluice::file> f = co_await d->create();
  if (!f) co_return f.error().code;
  const sluice::result<void> named = co_await sluice::publish(*f, *d, "made-here");
  co_return named ? 0 : named.error().code;
}

sluice::task<int> remove(sluice::engine& e, std::filesystem::path root, std::string path) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, root.string());
  const sluice::result<void> gone = co_await in->remove(path);
  co_return gone ? 0 : gone.error().code;
}

sluice::task<int> open_root(sluice::engine& e, std::string path) {
  const sluice::result<sluice::directory> in = co_await sluice::directory::open(e, path);
  co_return in ? 0 : in.error().code;
}

void make_tree(world& w) {
  std::filesystem::create_directories(w.at("in/sub/deep"));
  make_file(w.at("in/file"), pattern(1, 0, 5));
  make_file(w.at("in/sub/file"), pattern(2, 0, 5));
  make_file(w.at("outside"), pattern(3, 0, 5));
  std::filesystem::create_symlink("file", w.at("in/link"));
  std::filesystem::create_symlink("sub", w.at("in/link-to-sub"));
  REQUIRE(::mkfifo(w.at("in/fifo").c_str(), 0600) == 0);
}

}  // namespace

TEST_CASE("only regular files beneath the root are opened for reading") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    for (const auto& [path, wanted] : std::initializer_list<std::pair<std::string, int>>{
             {"file", 0},
             {"sub/file", 0},
             {"", ENOENT},
             {"missing", ENOENT},
             {"sub", EISDIR},
             {"sub/", EISDIR},
             {".", EISDIR},
             {"fifo", EINVAL},
             {"link", ELOOP},
             {"link-to-sub/file", ELOOP},
             {"../outside", EXDEV},
             {"sub/../file", EXDEV},
             {w.at("in/file"), EXDEV},
             {std::string("file\0.jpg", 9), EINVAL}}) {
      CAPTURE(path);
      CHECK(w.run(open_file(w.engine(), w.at("in"), path)) == wanted);
    }
  }
}

TEST_CASE("a look says what opening would, and opens nothing") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    for (const auto& [path, wanted] :
         std::initializer_list<std::pair<std::string, int>>{{"file", 0},
                                                            {"sub/file", 0},
                                                            {"", ENOENT},
                                                            {"missing", ENOENT},
                                                            {"sub", EISDIR},
                                                            {"sub/", EISDIR},
                                                            {"fifo", EINVAL},
                                                            {"link", ELOOP},
                                                            {"link-to-sub/file", ELOOP},
                                                            {"file/below", ENOTDIR},
                                                            {"../outside", EXDEV},
                                                            {w.at("in/file"), EXDEV}}) {
      CAPTURE(path);
      const sluice::result<sluice::file_info> seen = w.run(look(w.engine(), w.at("in"), path));
      CHECK((seen ? 0 : seen.error().code) == wanted);
    }
    struct stat info{};
    REQUIRE(::stat(w.at("in/sub/file").c_str(), &info) == 0);
    const sluice::result<sluice::file_info> seen = w.run(look(w.engine(), w.at("in"), "sub/file"));
    REQUIRE(seen.has_value());
    CHECK(seen->bytes == 5);
    CHECK(seen->inode == info.st_ino);
    CHECK(seen->modified_ns ==
          std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec);
  }
}

TEST_CASE("a root that is none is told by its errno, and a root may be a symbolic link") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    CHECK(w.run(open_root(w.engine(), w.at("in/link-to-sub"))) == 0);
    CHECK(w.run(open_root(w.engine(), w.at("missing"))) == ENOENT);
    CHECK(w.run(open_root(w.engine(), w.at("in/file"))) == ENOTDIR);
  }
}

TEST_CASE("missing parents are made where asked for, and nowhere else") {
  using sluice::make_parents;
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    const auto open = [&w](const std::string& path, make_parents make) {
      const int told = w.run(open_directory(w.engine(), w.at("in"), path, make));
      w.settle();
      return told;
    };
    CHECK(open("", make_parents::no) == 0);
    CHECK(open("sub/deep", make_parents::no) == 0);
    CHECK(open("sub/new", make_parents::no) == ENOENT);
    CHECK(!std::filesystem::exists(w.at("in/sub/new")));
    CHECK(open("sub/new/a/b", make_parents::yes) == 0);
    CHECK(std::filesystem::exists(w.at("in/sub/new/a/b/made-here")));
    CHECK(open("sub//other/", make_parents::yes) == 0);
    CHECK(std::filesystem::exists(w.at("in/sub/other/made-here")));
    CHECK(open("sub/new/a/b", make_parents::yes) == 0);
    CHECK(open("file/x", make_parents::yes) == ENOTDIR);
    CHECK(open("link-to-sub/x", make_parents::yes) == ELOOP);
    CHECK(!std::filesystem::exists(w.at("in/sub/x")));
    CHECK(open("../x", make_parents::yes) == EXDEV);
    CHECK(open("fresh/../../x", make_parents::yes) == EXDEV);
    CHECK(!std::filesystem::exists(w.at("in/fresh")));
    CHECK(!std::filesystem::exists(w.at("x")));
    CHECK(open("/x", make_parents::yes) == EXDEV);
    CHECK(open(std::string("n\0x", 3), make_parents::yes) == EINVAL);
    CHECK(!std::filesystem::exists(w.at("in/n")));
    CHECK(open(std::string(256, 'n'), make_parents::yes) == ENAMETOOLONG);
  }
}

TEST_CASE("parents that many make at once are made once, and all get in") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    int ended = 0;
    int good = 0;
    for (int i = 0; i < 8; ++i) {
      w.engine().start(
          open_directory(w.engine(), w.folder().path(), "a/b/c", sluice::make_parents::yes),
          [&ended, &good](int c) {
            ++ended;
            good += c == 0 ? 1 : 0;
          });
    }
    w.until([&ended] { return ended == 8; });
    CHECK(good == 8);
    w.settle();
  }
}

TEST_CASE("remove takes the name of a regular file and of nothing else") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    make_tree(w);
    for (const auto& [path, wanted] : std::initializer_list<std::pair<std::string, int>>{
             {"", EISDIR},
             {"sub", EISDIR},
             {"sub/", EISDIR},
             {"missing", ENOENT},
             {"missing/file", ENOENT},
             {"file/x", ENOTDIR},
             {"fifo", EINVAL},
             {"link", EINVAL},
             {"link-to-sub/file", ELOOP},
             {"../outside", EXDEV},
             {"sub/../file", EXDEV},
             {"/file", EXDEV},
             {w.at("in/file"), EXDEV},
             {std::string("file\0.jpg", 9), EINVAL}}) {
      CAPTURE(path);
      CHECK(w.run(remove(w.engine(), w.at("in"), path)) == wanted);
    }
    CHECK(std::filesystem::exists(w.at("in/file")));
    CHECK(std::filesystem::exists(w.at("in/sub/file")));
    const std::uint64_t syncs = w.counter("sluice.commit.syncs");
    CHECK(w.run(remove(w.engine(), w.at("in"), "sub/file")) == 0);
    CHECK(!std::filesystem::exists(w.at("in/sub/file")));
    CHECK(w.counter("sluice.commit.syncs") == syncs + 1);  // durable when it returns
    CHECK(w.run(remove(w.engine(), w.at("in"), "sub/file")) == ENOENT);
  }
}

TEST_CASE("an open file lives on without its name") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(1, 0, 100));
    const auto read = [](sluice::engine& e, std::filesystem::path root) -> sluice::task<bool> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, root.string());
      sluice::result<sluice::file> f = co_await in->open_file("file");
      const sluice::result<void> gone = co_await in->remove("file");
      std::vector<std::byte> seen(100);
      sluice::op_await reading = f->read(seen, 0);
      const sluice::result<std::size_t> got = co_await reading;
      co_return gone&& got && *got == 100 && support::is_pattern(seen, 1, 0);
    };
    CHECK(w.run(read(w.engine(), w.folder().path())));
    CHECK(w.names().empty());
  }
}

TEST_CASE("a directory found on the way to a missing one is made durable as well") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    std::filesystem::create_directory(w.at("found"));  // its maker has not synced it yet
    const std::uint64_t before = w.counter("sluice.commit.syncs");
    CHECK(w.run(open_directory(w.engine(), w.folder().path(), "found/new",
                               sluice::make_parents::yes)) == 0);
    // The folder, `found`, and two for the file that the helper leaves there.
    CHECK(w.counter("sluice.commit.syncs") - before == 4);
    w.settle();
  }
}

TEST_CASE("a directory that the filesystem refuses to make is nobody's concern afterwards") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    CHECK(w.run(open_directory(w.engine(), "/proc/sys", "refused", sluice::make_parents::yes)) !=
          0);
    CHECK_FALSE(sluice::new_directories::of_process().any());
  }
}
