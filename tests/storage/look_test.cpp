#include "storage/look.hpp"

#include <linux/magic.h>

#include "conformance/suite.hpp"
#include "storage/committer.hpp"

namespace {

using namespace conformance;

// The size that a look tells, or -errno.
sluice::task<std::int64_t> size_of(sluice::engine& e, int fd) {
  sluice::look_await looking(e.core(), fd);
  const sluice::result<sluice::file_look> seen = co_await looking;
  co_return seen ? static_cast<std::int64_t>(seen->inode.bytes) : -seen.error().code;
}

}  // namespace

TEST_CASE("a look tells what the file is now, and makes its filesystem known") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const int fd = ::open(w.at("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    const auto inode = sluice::kernel::inode_of(fd).value();
    CHECK_FALSE(sluice::is_known(w.engine().core(), inode));
    CHECK(w.run(size_of(w.engine(), fd)) == 0);
    CHECK(sluice::is_known(w.engine().core(), inode));
    REQUIRE(::ftruncate(fd, 4321) == 0);
    CHECK(w.run(size_of(w.engine(), fd)) == 4321);
    ::close(fd);
    CHECK(w.run(size_of(w.engine(), -1)) == -EBADF);
  }
}

TEST_CASE("a filesystem that has to be asked is asked by a worker, each time") {
  for (const std::string& backend : support::backends()) {
    world w({backend, backend, std::filesystem::current_path().string(), true, ""});
    const int fd = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    for (int i = 0; i < 2; ++i) {
      sluice::look_await looking(w.engine().core(), fd);
      CHECK_FALSE(looking.await_ready());
      CHECK(w.run(size_of(w.engine(), fd)) == 0);
    }
    CHECK(sluice::is_known(w.engine().core(), sluice::kernel::inode_of(fd).value()));
    ::close(fd);
  }
}
