#include "storage/reserve.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "conformance/suite.hpp"
#include "storage/file_state.hpp"

namespace {

using namespace conformance;

sluice::file adopted(world& w, int flags) {
  const int fd = ::open(w.at("file").c_str(), flags | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

sluice::task<int> reserve(sluice::file& f, std::uint64_t offset, std::uint64_t bytes) {
  std::uint64_t ops = 0;
  const sluice::result<void> done = co_await sluice::reserve_space(f.state(), offset, bytes, ops);
  co_return done ? 0 : done.error().code;
}

}  // namespace

TEST_CASE("reserved space is there, and the file as long as its end") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file f = adopted(w, O_RDWR | O_CREAT);
    CHECK(w.run(reserve(f, 0, 1 << 20)) == 0);
    CHECK(w.run(reserve(f, 1 << 20, 4096)) == 0);
    CHECK(w.run(reserve(f, 0, 100)) == 0);
    struct stat info{};
    REQUIRE(::fstat(f.fd(), &info) == 0);
    CHECK(info.st_size == (1 << 20) + 4096);
    CHECK(info.st_blocks * 512 >= info.st_size);
  }
}

TEST_CASE("more than the filesystem has free is refused at once, and takes nothing") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file f = adopted(w, O_RDWR | O_CREAT);
    struct statvfs free{};
    REQUIRE(::fstatvfs(f.fd(), &free) == 0);
    const std::uint64_t all = std::uint64_t{free.f_blocks} * free.f_frsize;
    CHECK(w.run(reserve(f, 0, all + 1)) == ENOSPC);
    struct stat info{};
    REQUIRE(::fstat(f.fd(), &info) == 0);
    CHECK(info.st_size == 0);
    CHECK(info.st_blocks == 0);
  }
}
