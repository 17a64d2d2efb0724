// copy_file_range copies a hole as zeroes that take up space, and says 0 at the end of the file.
#include "probe.hpp"

namespace {

constexpr off_t hole_bytes = 1 << 20;

off_t occupied(int fd) {
  struct stat info{};
  probe::must(::fstat(fd, &info), "fstat");
  return info.st_blocks * 512;
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor from = dir.unnamed_file();
  const probe::descriptor to = dir.unnamed_file();
  probe::must(::pwrite(from.get(), "x", 1, hole_bytes), "pwrite");
  if (occupied(from.get()) >= hole_bytes) probe::skip("a filesystem without holes");
  // Not from 0: a filesystem that shares blocks would do so, and does not in the middle of one.
  off_t source = 1;
  off_t target = 0;
  long copied = 0;
  while (copied < hole_bytes) {
    const long now = probe::result_of(::copy_file_range(
        from.get(), &source, to.get(), &target, static_cast<size_t>(hole_bytes - copied), 0));
    if (now == -EXDEV || now == -EOPNOTSUPP || now == -ENOSYS) {
      probe::skip("no copy_file_range: " + probe::in_words(now));
    }
    probe::expect(now > 0, "the range is copied to its end");
    copied += now;
  }
  probe::must(::fsync(to.get()), "fsync");
  probe::expect(occupied(to.get()) >= hole_bytes, "the copy of a hole takes up space");
  probe::expect_equal(
      probe::result_of(::copy_file_range(from.get(), &source, to.get(), &target, 4096, 0)), 0,
      "copy_file_range at the end of the source");
}

}  // namespace

int main() { return probe::run(show); }
