#include "kernel/beneath.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>

#include "kernel/fd.hpp"
#include "support/all_given_back.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;

std::int64_t by_openat2(int directory, const char* path, int flags) {
  beneath_how how = make_beneath_how(flags, (flags & O_CREAT) != 0 ? 0600 : 0);
  const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
  return fd < 0 ? -errno : fd;
}

std::int64_t by_walk(int directory, const char* path, int flags) {
  return walk_beneath(directory, path, flags, (flags & O_CREAT) != 0 ? 0600 : 0);
}

// -errno, or the inode that was opened; closes it.
std::int64_t outcome(std::int64_t opened) {
  if (opened < 0) return opened;
  const unique_fd fd(static_cast<int>(opened));
  struct stat info{};
  ::fstat(fd.get(), &info);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  return static_cast<std::int64_t>(info.st_ino);
}

// A root with everything in it that may lead astray.
class tree {
 public:
  tree() {
    namespace fs = std::filesystem;
    const fs::path root = dir_.path() / "root";
    fs::create_directories(root / "a" / "b");
    dir_.write("outside", "secret");
    dir_.write("root/file", "1");
    dir_.write("root/a/file", "2");
    dir_.write("root/a/b/file", "3");
    fs::create_symlink("file", root / "link");
    fs::create_symlink("a", root / "linked");
    fs::create_symlink("../outside", root / "out");
    fs::create_symlink("..", root / "up");
    fs::create_symlink("/", root / "slash");
    fs::create_symlink("absent", root / "dangling");
    fs::create_symlink("../file", root / "a" / "back");
    ::mkfifo((root / "fifo").c_str(), 0600);
    root_.reset(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  [[nodiscard]] int root() const { return root_.get(); }

 private:
  support::temp_dir dir_;
  unique_fd root_;
};

TEST_CASE("the walk opens what openat2 opens, and refuses with the same errors") {
  const support::all_given_back watch;
  const tree t;
  constexpr std::array paths{
      "file",
      "a/file",
      "a/b/file",
      "a//b///file",
      "./a/./b/file",
      ".",
      "a",
      "a/b",
      "a/",
      "a/.",
      "absent",
      "a/absent",
      "absent/file",
      "file/x",
      "file/",
      "file/.",
      "link",
      "linked",
      "linked/file",
      "out",
      "up",
      "up/root/file",
      "slash",
      "slash/etc",
      "dangling",
      "dangling/file",
      "a/back",
      "..",
      "../root/file",
      "../outside",
      "/",
      "/etc/passwd",
      "//etc/passwd",
      "link/",
      "linked/",
      "linked/.",
      "",
  };
  if (by_openat2(t.root(), "absent", O_RDONLY) != -ENOENT) {
    MESSAGE("no openat2 here: nothing to compare with");
    return;
  }
  for (const char* path : paths) {
    for (const int flags : {O_RDONLY, O_RDONLY | O_DIRECTORY, O_WRONLY, O_RDWR}) {
      CAPTURE(std::string(path));
      CAPTURE(flags);
      CHECK(outcome(by_walk(t.root(), path, flags)) == outcome(by_openat2(t.root(), path, flags)));
    }
  }
}

TEST_CASE("names of the longest kind and beyond are the same to both") {
  const tree t;
  for (const std::size_t length : {254U, 255U, 256U, 4095U, 5000U}) {
    const std::string name(length, 'n');
    CAPTURE(length);
    CHECK(by_walk(t.root(), name.c_str(), O_RDONLY) ==
          by_openat2(t.root(), name.c_str(), O_RDONLY));
  }
}

TEST_CASE("a new file is made the same way") {
  for (const char* path : {"new", "a/new", "link", "dangling", "out", "linked/new", "file", "a",
                           "absent/new", "../new"}) {
    for (const int flags : {O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL}) {
      CAPTURE(std::string(path));
      CAPTURE(flags);
      const tree walked;
      const tree opened;
      const std::int64_t by_hand = outcome(by_walk(walked.root(), path, flags));
      const std::int64_t by_call = outcome(by_openat2(opened.root(), path, flags));
      CHECK((by_hand < 0) == (by_call < 0));
      if (by_call < 0) CHECK(by_hand == by_call);
    }
  }
}

TEST_CASE("two dots are refused by the walk even where they stay beneath") {
  // openat2 allows them (kernel-notes/openat2_beneath.md); whoever calls refuses them before.
  const tree t;
  CHECK(by_walk(t.root(), "a/../file", O_RDONLY) == -EXDEV);
  CHECK(by_walk(t.root(), "a/b/..", O_RDONLY) == -EXDEV);
}

TEST_CASE("the rules of beneath are all asked for") {
  const beneath_how how = make_beneath_how(O_RDWR | O_CREAT, 0640);
  CHECK(how.flags == (O_RDWR | O_CREAT | O_CLOEXEC));
  CHECK(how.mode == 0640);
  CHECK(how.resolve == (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS));
}

}  // namespace
