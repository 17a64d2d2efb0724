#include "storage/temporary_name.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>

#include "kernel/fd.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using support::temp_dir;

std::uint64_t sweep(const temp_dir& dir) {
  swept_directory found;
  REQUIRE(sweep_directory(dir.fd(), found) == 0);
  return found.removed;
}

// A process that holds a temporary file, until it is killed.
class holder {
 public:
  holder(const temp_dir& dir, const std::string& name) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      const int fd = ::open(dir.at(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      const char held = fd >= 0 && hold_made(fd) == 0 ? 'y' : 'n';
      [[maybe_unused]] const auto told = ::write(ends[1], &held, 1);
      ::pause();
      ::_exit(1);
    }
    char held = 'n';
    CHECK(::read(ends[0], &held, 1) == 1);
    CHECK(held == 'y');
    ::close(ends[0]);
    ::close(ends[1]);
  }
  holder(const holder&) = delete;
  holder& operator=(const holder&) = delete;
  ~holder() { kill(); }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }

 private:
  pid_t child_ = 0;
};

TEST_CASE("temporary names begin with the prefix and do not come twice") {
  std::set<std::string> seen;
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = make_temporary_name();
    CHECK(name.starts_with(temporary_prefix));
    CHECK(seen.insert(name).second);
  }
}

TEST_CASE("a name is swept when nobody holds its file, whoever made it") {
  const temp_dir dir;
  for (int i = 0; i < 100; ++i) dir.write(make_temporary_name(), "left by somebody");
  dir.write("kept", "content");
  CHECK(sweep(dir) == 100);
  CHECK(dir.entry_count() == 1);
  CHECK(sweep(dir) == 0);
}

TEST_CASE("a name of a live process stays, and goes when the process was killed") {
  const temp_dir dir;
  const std::string name = make_temporary_name();
  holder live(dir, name);
  CHECK(sweep(dir) == 0);
  CHECK(dir.has(name));
  live.kill();
  CHECK(sweep(dir) == 1);
  CHECK_FALSE(dir.has(name));
}

TEST_CASE("a name held by this process stays too") {
  const temp_dir dir;
  const std::string name = make_temporary_name();
  const kernel::unique_fd fd(dir.open(name));
  CHECK(hold_made(fd.get()) == 0);
  CHECK(sweep(dir) == 0);
  release_temporary(fd.get());
  CHECK(sweep(dir) == 1);
}

TEST_CASE("only regular files are swept, and never what a link leads to") {
  const temp_dir dir;
  const temp_dir elsewhere;
  elsewhere.write("target", "content");
  const std::string prefix = temporary_prefix;
  REQUIRE(::symlinkat(elsewhere.at("target").c_str(), dir.fd(), (prefix + "link").c_str()) == 0);
  REQUIRE(::mkdirat(dir.fd(), (prefix + "directory").c_str(), 0700) == 0);
  REQUIRE(::mkfifoat(dir.fd(), (prefix + "fifo").c_str(), 0600) == 0);
  CHECK(sweep(dir) == 0);
  CHECK(dir.entry_count() == 3);
  CHECK(elsewhere.read("target") == "content");
}

TEST_CASE("a file whose name a sweeper took, or that it holds now, is to be made again") {
  const temp_dir dir;
  const std::string name = make_temporary_name();
  const kernel::unique_fd fd(dir.open(name));
  const kernel::unique_fd sweeper(dir.open(name));
  CHECK(hold_temporary(sweeper.get()) == 0);
  CHECK(hold_made(fd.get()) == ESTALE);
  REQUIRE(::unlinkat(dir.fd(), name.c_str(), 0) == 0);
  release_temporary(sweeper.get());
  CHECK(hold_made(fd.get()) == ESTALE);
}

TEST_CASE("a file is made under a temporary name that is held, with the mode that was asked for") {
  const temp_dir dir;
  std::string name;
  const kernel::unique_fd made(make_temporary(dir.fd(), 0640, name));
  REQUIRE(made);
  struct stat info{};
  REQUIRE(::fstatat(dir.fd(), name.c_str(), &info, 0) == 0);
  CHECK((info.st_mode & 0777 & ~0640U) == 0);
  CHECK(::write(made.get(), "x", 1) == 1);
  CHECK(sweep(dir) == 0);
  CHECK(make_temporary(made.get(), 0600, name) == -ENOTDIR);
}

TEST_CASE("a sweep tells of the directories within, not of links to directories") {
  const temp_dir dir;
  REQUIRE(::mkdirat(dir.fd(), "one", 0700) == 0);
  REQUIRE(::mkdirat(dir.fd(), ".two", 0700) == 0);
  REQUIRE(::symlinkat("/", dir.fd(), "link") == 0);
  dir.write("file", "");
  swept_directory found;
  REQUIRE(sweep_directory(dir.fd(), found) == 0);
  CHECK(std::set<std::string>(found.directories.begin(), found.directories.end()) ==
        std::set<std::string>{"one", ".two"});
  const kernel::unique_fd file(dir.open("file"));
  CHECK(sweep_directory(file.get(), found) == ENOTDIR);
}

}  // namespace
