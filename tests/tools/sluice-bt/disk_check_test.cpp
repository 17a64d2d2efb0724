#include "disk_check.hpp"

#include <doctest/doctest.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "support/temp_dir.hpp"

namespace {

struct two_files {
  two_files() {
    dir.write("a", std::string(700'000, 'a'));
    dir.write("b", std::string(300'000, 'b'));
    fds = {dir.open("a"), dir.open("b")};
  }
  two_files(const two_files&) = delete;
  two_files& operator=(const two_files&) = delete;
  ~two_files() {
    for (const int fd : fds) ::close(fd);
  }
  support::temp_dir dir;
  std::array<int, 2> fds{};
  const std::array<std::uint64_t, 2> lengths{700'000, 300'000};
  const bt::layout where{400'000, lengths};
};

bt::sha1_digest digest_of(const std::string& text) {
  return bt::sha1_of(std::as_bytes(std::span(text)));
}

}  // namespace

namespace {

// Pages of the file in memory.
std::ptrdiff_t cached_pages(int fd, std::size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(at != MAP_FAILED);
  std::vector<unsigned char> seen((bytes + 4095) / 4096);
  const int told = ::mincore(at, bytes, seen.data());
  ::munmap(at, bytes);
  REQUIRE(told == 0);
  return std::ranges::count_if(seen, [](unsigned char page) { return (page & 1) != 0; });
}

}  // namespace

TEST_CASE("what is on the disk already leaves the page cache, whatever else is asked for") {
  two_files on;
  struct statfs info{};
  REQUIRE(::fstatfs(on.fds[0], &info) == 0);
  if (info.f_type == TMPFS_MAGIC) {
    MESSAGE("the cache is all there is");
    return;
  }
  bt::disk_reader reader(on.where, on.fds);
  const bt::sha1_digest all = *reader.digest_of(0);
  for (const int fd : on.fds) REQUIRE(::fsync(fd) == 0);
  REQUIRE(cached_pages(on.fds[0], 700'000) > 0);
  const std::array<int, 3> some{on.fds[0], bt::no_descriptor, 1 << 30};
  bt::forget_cached(some);
  CHECK(cached_pages(on.fds[0], 700'000) == 0);
  CHECK(reader.digest_of(0) == all);
}

TEST_CASE("a piece is hashed across the border of its files") {
  two_files on;
  bt::disk_reader reader(on.where, on.fds);
  CHECK(reader.digest_of(0) == digest_of(std::string(400'000, 'a')));
  CHECK(reader.digest_of(1) == digest_of(std::string(300'000, 'a') + std::string(100'000, 'b')));
  CHECK(reader.digest_of(2) == digest_of(std::string(200'000, 'b')));
}

TEST_CASE("a file that is too short is told, and the next digest is right again") {
  two_files on;
  REQUIRE(::ftruncate(on.fds[0], 500'000) == 0);
  bt::disk_reader reader(on.where, on.fds);
  REQUIRE_FALSE(reader.digest_of(1));
  CHECK(reader.digest_of(1).error() == ENODATA);
  CHECK(reader.digest_of(0) == digest_of(std::string(400'000, 'a')));
}

TEST_CASE("a descriptor that cannot be read is told") {
  two_files on;
  const std::array<int, 2> wrong{on.fds[0], 1 << 30};
  bt::disk_reader reader(on.where, wrong);
  REQUIRE_FALSE(reader.digest_of(2));
  CHECK(reader.digest_of(2).error() == EBADF);
}

TEST_CASE("a pad is zeroes, and a hole wherever the others have one") {
  two_files on;
  const std::array<int, 2> padded{on.fds[0], bt::no_descriptor};
  const std::array<int, 2> pads{bt::no_descriptor, bt::no_descriptor};
  bt::disk_reader reader(on.where, padded);
  const std::uint32_t last = on.where.pieces() - 1;
  REQUIRE(reader.digest_of(last));
  CHECK(*reader.digest_of(last) == digest_of(std::string(on.where.bytes_of(last), '\0')));
  CHECK(reader.is_hole(last));
  CHECK_FALSE(reader.is_hole(0));
  bt::disk_reader nothing(on.where, pads);
  CHECK(*nothing.digest_of(0) == nothing.digest_of_hole(0));
}

TEST_CASE("what was written is no hole") {
  two_files on;
  const bt::disk_reader reader(on.where, on.fds);
  CHECK_FALSE(reader.is_hole(0));
  CHECK_FALSE(reader.is_hole(1));
  REQUIRE(::ftruncate(on.fds[1], 0) == 0);
  REQUIRE(::ftruncate(on.fds[1], 300'000) == 0);
  CHECK_FALSE(reader.is_hole(1));  // only its end
  CHECK(reader.is_hole(2));
}

TEST_CASE("the digest of a hole is that of its zeroes, of the last piece too") {
  two_files on;
  bt::disk_reader reader(on.where, on.fds);
  for (const std::uint32_t piece : {0U, 2U, 1U, 2U}) {
    CHECK(reader.digest_of_hole(piece) == digest_of(std::string(on.where.bytes_of(piece), '\0')));
  }
  CHECK(reader.digest_of(0) == digest_of(std::string(400'000, 'a')));
}
