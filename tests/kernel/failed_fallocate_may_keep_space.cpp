// fallocate(2) beyond the free space is ENOSPC before any byte is written; but ext4 keeps what it
// has allocated until then, which is all that was free. ftruncate to 0 gives it back.
#include <sys/statvfs.h>

#include "small_filesystem.hpp"

namespace {

constexpr std::size_t disk_bytes = 8 << 20;

struct outcome {
  long free_before, free_after, size_after;
};

outcome reserve_too_much(int dir) {
  const probe::descriptor file(static_cast<int>(
      probe::must(::openat(dir, "file", O_CREAT | O_RDWR | O_CLOEXEC, 0600), "openat")));
  const auto free_bytes = [&] {
    struct statvfs disk {};
    probe::must(::fstatvfs(file.get(), &disk), "fstatvfs");
    return static_cast<long>(disk.f_bavail * disk.f_bsize);
  };
  const long free_before = free_bytes();
  probe::ring ring;
  const int refused = ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_fallocate(sqe, file.get(), 0, 0, 2 * static_cast<off_t>(disk_bytes));
  });
  probe::expect_equal(refused, -ENOSPC, "fallocate beyond the free space");
  struct stat info {};
  probe::must(::fstat(file.get(), &info), "fstat");
  const outcome seen{free_before, free_bytes(), info.st_size};
  std::fprintf(stderr, "free %ld -> %ld, size of the file %ld\n", seen.free_before, seen.free_after,
               seen.size_after);

  probe::must(::ftruncate(file.get(), 0), "ftruncate");
  probe::expect_equal(free_bytes(), free_before, "free space after ftruncate to 0");
  return seen;
}

void show() {
  probe::on_small_tmpfs(disk_bytes, [](int dir) {
    const outcome tmpfs = reserve_too_much(dir);
    probe::expect_equal(tmpfs.free_after, tmpfs.free_before, "free space of tmpfs after ENOSPC");
    probe::expect_equal(tmpfs.size_after, 0, "size on tmpfs after ENOSPC");
  });
  probe::on_small_ext4(disk_bytes, [](int dir) {
    const outcome ext4 = reserve_too_much(dir);
    probe::expect(ext4.free_after < ext4.free_before / 2, "ext4 keeps what it has allocated");
    probe::expect(ext4.size_after > 0, "the file on ext4 has grown");
  });
}

}  // namespace

int main() { return probe::run(show); }
