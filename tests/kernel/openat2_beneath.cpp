// openat2 with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS opens what lies below
// a directory and nothing else: an escape is EXDEV, a symbolic link ELOOP, by the ring as well.
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "probe.hpp"

namespace {

void show() {
  const probe::temp_dir dir;
  const int at = dir.fd();
  probe::must(::mkdirat(at, "root", 0700), "mkdirat");
  probe::must(::mkdirat(at, "root/sub", 0700), "mkdirat");
  for (const char* name : {"outside", "root/inside", "root/sub/deep"}) {
    const probe::descriptor file(static_cast<int>(
        probe::must(::openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "openat")));
  }
  probe::must(::symlinkat("inside", at, "root/link"), "symlinkat");
  probe::must(::symlinkat("../outside", at, "root/escape"), "symlinkat");
  probe::must(::symlinkat("sub", at, "root/link_to_sub"), "symlinkat");
  const probe::descriptor root(static_cast<int>(
      probe::must(::openat(at, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "openat root")));

  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const auto by_call = [&](const char* path) {
    return probe::result_of(::syscall(SYS_openat2, root.get(), path, &how, sizeof how));
  };
  const long first = by_call("inside");
  if (first == -ENOSYS || first == -EPERM)
    probe::skip("openat2 is refused: " + probe::in_words(first));
  probe::descriptor(static_cast<int>(first)).close();

  probe::ring ring;
  const auto expect_open = [&](const char* path, long wanted) {
    const long called = by_call(path);
    const long ringed = ring.perform(
        [&](io_uring_sqe* sqe) { ::io_uring_prep_openat2(sqe, root.get(), path, &how); });
    const probe::descriptor close_first(static_cast<int>(called >= 0 ? called : -1));
    const probe::descriptor close_second(static_cast<int>(ringed >= 0 ? ringed : -1));
    probe::expect_equal(called < 0 ? called : 0, wanted, std::string("openat2 of ") + path);
    probe::expect_equal(ringed < 0 ? ringed : 0, wanted, std::string("OPENAT2 of ") + path);
  };
  expect_open("inside", 0);
  expect_open("sub/deep", 0);
  expect_open("sub/../inside", 0);
  expect_open("missing", -ENOENT);
  expect_open("../outside", -EXDEV);
  expect_open("sub/../../outside", -EXDEV);
  expect_open("..", -EXDEV);
  expect_open("/etc/passwd", -EXDEV);
  expect_open("link", -ELOOP);
  expect_open("escape", -ELOOP);
  expect_open("link_to_sub/deep", -ELOOP);
}

}  // namespace

int main() { return probe::run(show); }
