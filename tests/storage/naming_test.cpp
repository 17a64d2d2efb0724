#include "storage/naming.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "storage/temporary_name.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using support::temp_dir;

// A file with content, ready to be named: without a name, or under a temporary one.
struct made_file {
  made_file(const temp_dir& dir, const std::string& content, bool unnamed) {
    if (unnamed) {
      fd.reset(::open(dir.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    } else {
      wanted.temporary_name = make_temporary_name();
      fd.reset(dir.open(wanted.temporary_name));
      wanted.temporary_directory.reset(::fcntl(dir.fd(), F_DUPFD_CLOEXEC, 0));
    }
    REQUIRE(fd);
    REQUIRE(::write(fd.get(), content.data(), content.size()) ==
            static_cast<ssize_t>(content.size()));
    wanted.file_fd = fd.get();
    wanted.directory_fd = dir.fd();
    wanted.unnamed = unnamed;
  }
  int name(const char* as, existing_name existing) {
    wanted.name = as;
    wanted.existing = existing;
    return name_file(wanted);
  }
  kernel::unique_fd fd;
  naming wanted;
};

TEST_CASE("a new name appears with its content, and no other is left") {
  for (const bool unnamed : {true, false}) {
    CAPTURE(unnamed);
    for (const existing_name existing : {existing_name::keep, existing_name::replace}) {
      const temp_dir dir;
      made_file f(dir, "content", unnamed);
      CHECK(f.name("name", existing) == 0);
      CHECK_FALSE(f.wanted.replaced);
      CHECK_FALSE(f.wanted.unnamed);
      CHECK(f.wanted.temporary_name.empty());
      CHECK(dir.read("name") == "content");
      CHECK(dir.entry_count() == 1);
    }
  }
}

TEST_CASE("a name that is taken is kept, or replaced, whole") {
  for (const bool unnamed : {true, false}) {
    CAPTURE(unnamed);
    const temp_dir dir;
    dir.write("name", "old");
    made_file f(dir, "new", unnamed);
    CHECK(f.name("name", existing_name::keep) == EEXIST);
    CHECK(dir.read("name") == "old");
    CHECK(f.name("name", existing_name::replace) == 0);
    CHECK(f.wanted.replaced);
    CHECK(dir.read("name") == "new");
    CHECK(dir.entry_count() == 1);
    // Nothing of ours stays on the published file.
    const kernel::unique_fd other(dir.open("name"));
    CHECK(::flock(other.get(), LOCK_EX | LOCK_NB) == 0);
  }
}

TEST_CASE("a refused name leaves a file that takes another one") {
  for (const bool unnamed : {true, false}) {
    CAPTURE(unnamed);
    const temp_dir dir;
    REQUIRE(::mkdirat(dir.fd(), "taken", 0700) == 0);
    made_file f(dir, "content", unnamed);
    CHECK(f.name("taken", existing_name::replace) == EISDIR);
    CHECK(f.name("taken", existing_name::keep) == EEXIST);
    CHECK(f.name(std::string(256, 'x').c_str(), existing_name::replace) == ENAMETOOLONG);
    // Under its temporary name meanwhile, which no sweeper takes.
    CHECK_FALSE(f.wanted.unnamed);
    swept_directory swept;
    CHECK(sweep_directory(dir.fd(), swept) == 0);
    if (unnamed) CHECK(swept.removed == 0);
    if (!unnamed) continue;
    CHECK(f.name("free", existing_name::replace) == 0);
    CHECK(dir.read("free") == "content");
    CHECK(dir.entry_count() == 2);
  }
}

TEST_CASE("of threads that give one name, one wins with existing_name::keep") {
  for (const bool unnamed : {true, false}) {
    const temp_dir dir;
    constexpr std::size_t count = 8;
    std::vector<std::unique_ptr<made_file>> files;
    for (std::size_t i = 0; i < count; ++i) {
      files.push_back(std::make_unique<made_file>(dir, std::to_string(i), unnamed));
    }
    std::vector<int> results(count, -1);
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < count; ++i) {
        threads.emplace_back([&, i] { results[i] = files[i]->name("name", existing_name::keep); });
      }
    }
    std::size_t won = count;
    for (std::size_t i = 0; i < count; ++i) {
      if (results[i] == 0) {
        CHECK(won == count);
        won = i;
      } else {
        CHECK(results[i] == EEXIST);
      }
    }
    REQUIRE(won < count);
    CHECK(dir.read("name") == std::to_string(won));
  }
}

}  // namespace
