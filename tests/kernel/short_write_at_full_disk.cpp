// A write that no longer fits is short, not an error: it takes what there is room for. ENOSPC comes
// with the next one, and not at all to who does not write what was left.
#include <vector>

#include "small_filesystem.hpp"

namespace {

constexpr std::size_t disk_bytes = 1 << 20;

void show() {
  probe::on_small_tmpfs(disk_bytes, [](int dir) {
    probe::ring ring;
    const probe::descriptor file(static_cast<int>(
        probe::must(::openat(dir, "file", O_CREAT | O_RDWR | O_CLOEXEC, 0600), "openat")));
    const std::vector<char> data(2 * disk_bytes, 'x');
    std::size_t written = 0;
    const auto write_rest = [&] {
      const int result = ring.perform([&](io_uring_sqe* sqe) {
        ::io_uring_prep_write(sqe, file.get(), data.data(),
                              static_cast<unsigned>(data.size() - written), written);
      });
      if (result > 0) written += static_cast<std::size_t>(result);
      return result;
    };
    const int first = write_rest();
    probe::expect(first > 0 && first <= static_cast<int>(disk_bytes),
                  "the write over the end of the disk is short, got " + probe::in_words(first));
    probe::expect_equal(write_rest(), -ENOSPC, "the write of what was left");

    struct stat info {};
    probe::must(::fstat(file.get(), &info), "fstat");
    probe::expect_equal(info.st_size, static_cast<long>(written), "size of the file");
    probe::must(::ftruncate(file.get(), 0), "ftruncate");
    written = data.size() - 4096;
    probe::expect_equal(write_rest(), 4096, "a write after the space was given back");
  });
}

}  // namespace

int main() { return probe::run(show); }
