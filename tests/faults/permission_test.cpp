// What a process may not do on a filesystem is an error with its errno, and nothing else breaks.
#include <sys/stat.h>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;

struct attempts {
  int create = 0;
  int make_parents = 0;
  int remove = 0;
  int open = 0;
  int readable = 0;
};

sluice::task<attempts> try_all(sluice::engine& e, std::filesystem::path folder) {
  attempts a;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return a;
  const sluice::result<sluice::file> created = co_await in->create();
  a.create = created ? 0 : created.error().code;
  const sluice::result<sluice::directory> made =
      co_await in->open_directory("a/b", sluice::make_parents::yes);
  a.make_parents = made ? 0 : made.error().code;
  const sluice::result<void> removed = co_await in->remove("readable");
  a.remove = removed ? 0 : removed.error().code;
  const sluice::result<sluice::file> secret = co_await in->open_file("secret");
  a.open = secret ? 0 : secret.error().code;
  const sluice::result<sluice::file> readable = co_await in->open_file("readable");
  a.readable = readable ? 0 : readable.error().code;
  co_return a;
}

void make_files(const std::string& folder) {
  make_file(folder + "/readable", pattern(1, 0, 100));
  make_file(folder + "/secret", pattern(2, 0, 100));
  REQUIRE(::chmod((folder + "/readable").c_str(), 0644) == 0);
  REQUIRE(::chmod((folder + "/secret").c_str(), 0600) == 0);
  REQUIRE(::chmod(folder.c_str(), 0755) == 0);
}

}  // namespace

TEST_CASE("an ordinary user gets EACCES in a directory of somebody else, and goes on") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    if (!is_there("/dev/shm")) continue;
    // Below a folder that everybody may enter: the build folder may lie in a private one.
    const std::unique_ptr<support::temp_dir> parent = temp_dir_in("/dev/shm");
    REQUIRE(::chmod(parent->path().c_str(), 0777) == 0);
    const std::string theirs = parent->at("theirs");
    const std::string ours = parent->at("ours");
    REQUIRE(std::filesystem::create_directory(theirs));
    REQUIRE(std::filesystem::create_directory(ours));
    REQUIRE(::chmod(ours.c_str(), 0777) == 0);
    make_files(theirs);
    faults::in_child([&] {
      faults::become_ordinary_user();
      setting there = on;
      there.folder = ours;
      world w(there);
      const attempts a = w.run(try_all(w.engine(), theirs));
      CHECK(a.create == EACCES);
      CHECK(a.make_parents == EACCES);
      CHECK(a.remove == EACCES);
      CHECK(a.open == EACCES);
      CHECK(a.readable == 0);
      const attempts own = w.run(try_all(w.engine(), w.folder().path()));
      CHECK(own.create == 0);
      CHECK(own.make_parents == 0);
      CHECK(own.remove == ENOENT);
    });
    CHECK(same_bytes(content_of(theirs + "/readable"), pattern(1, 0, 100)));
  }
}

TEST_CASE("a read-only filesystem gives EROFS and can be read") {
  for (const setting& on : every_setting()) {
    if (on.folder == "/dev/shm") continue;
    CAPTURE(on.name);
    const std::unique_ptr<support::temp_dir> parent = temp_dir_in(on.folder);
    const std::string root = parent->at("disk");
    REQUIRE(std::filesystem::create_directory(root));
    faults::in_child([&] {
      faults::mount_tmpfs(root, 1 << 20);
      make_files(root);
      world w(on);
      REQUIRE(::mount("none", root.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0);
      const attempts a = w.run(try_all(w.engine(), root));
      CHECK(a.create == EROFS);
      CHECK(a.make_parents == EROFS);
      CHECK(a.remove == EROFS);
      CHECK(a.open == 0);  // as root
      CHECK(a.readable == 0);
    });
  }
}
