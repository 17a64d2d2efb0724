#include "kernel/page_cache.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "kernel/fd.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;

constexpr std::uint64_t page = 4096;

// A file of so many pages and 100 bytes, all on the disk and so evictable.
unique_fd make_file(const support::temp_dir& dir, std::uint64_t pages) {
  dir.write("file", std::string(pages * page + 100, 'x'));
  unique_fd fd(dir.open("file", O_RDWR));
  REQUIRE(::fsync(fd.get()) == 0);
  return fd;
}

void evict(int fd, std::uint64_t offset, std::uint64_t bytes) {
  REQUIRE(::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                          POSIX_FADV_DONTNEED) == 0);
}

TEST_CASE("what was just written is resident, to the last byte and beyond the end") {
  const support::temp_dir dir;
  const unique_fd fd = make_file(dir, 64);
  if (!is_resident(fd.get(), 0, 1)) {
    MESSAGE("this filesystem does not tell");
    return;
  }
  CHECK(is_resident(fd.get(), 0, 64 * page + 100));
  CHECK(is_resident(fd.get(), 3, 0));
  CHECK(is_resident(fd.get(), page - 1, 2));
  CHECK(is_resident(fd.get(), 64 * page + 99, 1));
}

TEST_CASE("what was evicted is not resident, be it at the beginning, at the end or in between") {
  const support::temp_dir dir;
  // In pieces larger than any folio of the cache: a part of one is not evicted.
  struct row {
    std::uint64_t evicted_page;
    std::uint64_t pages;
  };
  for (const row& gone : {row{0, 4096}, row{0, 1024}, row{3072, 1024}, row{1024, 1024}}) {
    CAPTURE(gone.evicted_page);
    const unique_fd fd = make_file(dir, 4096);
    if (!is_resident(fd.get(), 0, 4096 * page)) {
      MESSAGE("this filesystem does not tell");
      return;
    }
    evict(fd.get(), gone.evicted_page * page, gone.pages * page);
    CHECK_FALSE(is_resident(fd.get(), 0, 4096 * page));
  }
}

TEST_CASE("asking for an evicted range begins to read it") {
  const support::temp_dir dir;
  const unique_fd fd = make_file(dir, 64);
  if (!is_resident(fd.get(), 0, page)) return;
  evict(fd.get(), 0, 64 * page);
  bool there = is_resident(fd.get(), 0, page);
  for (int tries = 0; tries < 5000 && !there; ++tries) {
    ::usleep(1000);
    there = is_resident(fd.get(), 0, page);
  }
  CHECK(there);
}

TEST_CASE("on tmpfs, which knows no RWF_NOWAIT, what is in memory is resident") {
  const unique_fd fd(::memfd_create("file", MFD_CLOEXEC));
  CHECK(is_in_memory(fd.get()));
  REQUIRE(::ftruncate(fd.get(), 64 * page) == 0);
  const std::string part(16 * page, 'x');
  REQUIRE(::pwrite(fd.get(), part.data(), part.size(), 0) == static_cast<ssize_t>(part.size()));
  if (!is_resident(fd.get(), 0, 1)) {
    MESSAGE("this kernel has no cachestat");
    return;
  }
  CHECK(is_resident(fd.get(), 0, 16 * page));
  CHECK_FALSE(is_resident(fd.get(), 0, 17 * page));  // a hole has no page
}

TEST_CASE("of what is no readable file nothing is resident") {
  CHECK_FALSE(is_resident(-1, 0, 1));
  CHECK_FALSE(is_in_memory(-1));
  const support::temp_dir dir;
  CHECK_FALSE(is_resident(dir.fd(), 0, 1));
  CHECK_FALSE(is_in_memory(dir.fd()));
}

}  // namespace
