#include "kernel/file_info.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <string_view>

#include "kernel/clock.hpp"
#include "kernel/fd.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;

direct_alignment alignment_at(int fd) {
  const auto inode = inode_of(fd);
  return alignment_of(fd, inode.value_or(inode_info{}), filesystem_of(fd));
}

TEST_CASE("an alignment that is told lets a direct write of that alignment through") {
  const support::temp_dir dir;
  const unique_fd fd(dir.open("file"));
  const direct_alignment told = alignment_at(fd.get());
  CHECK_FALSE(is_direct(fd.get()));  // as it was
  if (!told.possible()) {
    MESSAGE("no O_DIRECT here");
    return;
  }
  CHECK((told.offset_bytes & (told.offset_bytes - 1)) == 0);
  CHECK((told.memory_bytes & (told.memory_bytes - 1)) == 0);
  REQUIRE(set_direct(fd.get(), true) == 0);
  void* block = nullptr;
  REQUIRE(::posix_memalign(&block, 4096, 8192) == 0);
  auto* at = static_cast<char*>(block);
  std::fill(at, at + 8192, 'x');
  const auto size = static_cast<ssize_t>(told.offset_bytes);
  CHECK(::pwrite(fd.get(), at + told.memory_bytes % 4096, told.offset_bytes,
                 static_cast<off_t>(told.offset_bytes)) == size);
  std::free(block);
}

TEST_CASE("a filesystem in memory has no direct path") {
  const unique_fd fd(::memfd_create("memory", MFD_CLOEXEC));
  REQUIRE(fd);
  CHECK_FALSE(alignment_at(fd.get()).possible());
}

TEST_CASE("what is no file has no direct path") { CHECK_FALSE(alignment_at(-1).possible()); }

TEST_CASE("O_DIRECT is switched on and off, and the other flags stay") {
  const support::temp_dir dir;
  const unique_fd fd(dir.open("file", O_RDWR | O_CREAT | O_APPEND));
  if (set_direct(fd.get(), true) != 0) {
    MESSAGE("no O_DIRECT here");
    return;
  }
  CHECK(is_direct(fd.get()));
  CHECK(set_direct(fd.get(), true) == 0);
  CHECK(is_append(fd.get()));
  CHECK(set_direct(fd.get(), false) == 0);
  CHECK_FALSE(is_direct(fd.get()));
  CHECK(is_append(fd.get()));
  CHECK(set_direct(-1, true) == EBADF);
}

TEST_CASE("a file opened again for direct reading or writing has flags of its own") {
  const support::temp_dir dir;
  const unique_fd fd(dir.open("file"));
  for (const int access : {O_RDONLY, O_WRONLY}) {
    CAPTURE(access);
    reopened found;
    const int again = reopen_direct(fd.get(), access, found);
    if (again == -EOPNOTSUPP) {
      MESSAGE("no O_DIRECT here");
      return;
    }
    REQUIRE(again >= 0);
    const unique_fd direct(again);
    CHECK(found.alignment.possible());
    CHECK(found.on.magic == filesystem_of(fd.get()).magic);
    CHECK(is_direct(direct.get()));
    CHECK_FALSE(is_direct(fd.get()));
    CHECK(inode_of(direct.get())->inode == inode_of(fd.get())->inode);
    CHECK(::fcntl(direct.get(), F_GETFD) == FD_CLOEXEC);
    CHECK(is_writable(direct.get()) == (access == O_WRONLY));
    CHECK(reopen_direct(-1, access, found) == -ENOENT);
  }
}

TEST_CASE("a filesystem in memory is no place for direct reads") {
  const unique_fd fd(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd) {
    MESSAGE("no /dev/shm here");
    return;
  }
  reopened found;
  CHECK(reopen_direct(fd.get(), O_RDONLY, found) == -EOPNOTSUPP);
  CHECK_FALSE(found.alignment.possible());
}

TEST_CASE("what is open for reading only is not writable") {
  const support::temp_dir dir;
  const unique_fd both(dir.open("file"));
  const unique_fd reading(dir.open("file", O_RDONLY));
  const unique_fd writing(dir.open("file", O_WRONLY));
  CHECK(is_writable(both.get()));
  CHECK(is_writable(writing.get()));
  CHECK_FALSE(is_writable(reading.get()));
  CHECK_FALSE(is_writable(-1));
  CHECK(is_readable(both.get()));
  CHECK(is_readable(reading.get()));
  CHECK_FALSE(is_readable(writing.get()));
  CHECK_FALSE(is_readable(-1));
}

TEST_CASE("an inode tells size, number, kind and time of change") {
  const support::temp_dir dir;
  const unique_fd fd(dir.open("file"));
  REQUIRE(::ftruncate(fd.get(), 12'345) == 0);
  const timespec when[2] = {{1'000'000'000, 7}, {1'700'000'000, 123'456'789}};
  REQUIRE(::futimens(fd.get(), when) == 0);
  const auto info = inode_of(fd.get());
  REQUIRE(info.has_value());
  struct stat expected{};
  ::fstat(fd.get(), &expected);
  CHECK(info->bytes == 12'345);
  CHECK(info->inode == expected.st_ino);
  CHECK(info->device == expected.st_dev);
  CHECK(S_ISREG(info->mode));
  CHECK(info->modified_ns == 1'700'000'000'123'456'789);
  CHECK(S_ISDIR(inode_of(dir.fd())->mode));
  CHECK(inode_of(-1).error().code == EBADF);
}

TEST_CASE("free space is told where it can be asked, and is no obstacle where it cannot") {
  const support::temp_dir dir;
  const std::uint64_t free = free_bytes_beside(dir.fd());
  CHECK(free > 0);
  CHECK(free < std::numeric_limits<std::uint64_t>::max());
  CHECK(free_bytes_beside(-1) == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("syncfs is trusted where it is known to be enough, else there is a reason") {
  const unique_fd proc(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  REQUIRE(filesystem_of(proc.get()).syncfs_distrust() != nullptr);
  CHECK(std::string_view(filesystem_of(proc.get()).syncfs_distrust()).find("syncfs") !=
        std::string_view::npos);
  CHECK(filesystem_of(-1).syncfs_distrust() != nullptr);
  const unique_fd memory(::open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (memory) CHECK(filesystem_of(memory.get()).syncfs_distrust() == nullptr);
}

TEST_CASE("an append descriptor is recognised") {
  const support::temp_dir dir;
  const unique_fd plain(dir.open("file"));
  const unique_fd append(dir.open("file", O_WRONLY | O_APPEND));
  CHECK_FALSE(is_append(plain.get()));
  CHECK(is_append(append.get()));
  CHECK_FALSE(is_append(-1));
}

TEST_CASE("O_DIRECT is seen where it is on") {
  const support::temp_dir dir;
  const unique_fd plain(dir.open("file"));
  CHECK_FALSE(is_direct(plain.get()));
  if (set_direct(plain.get(), true) == 0) CHECK(is_direct(plain.get()));
  CHECK_FALSE(is_direct(-1));
}

}  // namespace
