// On a file with O_APPEND a write goes to the end whatever its offset, by the ring as by pwrite(2),
// and a splice into it is EINVAL. F_GETFL tells such a file.
#include "probe.hpp"

namespace {

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file(static_cast<int>(probe::must(
      ::openat(dir.fd(), "log", O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600), "openat")));
  probe::expect((::fcntl(file.get(), F_GETFL) & O_APPEND) != 0, "F_GETFL tells O_APPEND");

  probe::ring ring;
  const auto write_at_0 = [&](const char* text) {
    return ring.perform(
        [&](io_uring_sqe* sqe) { ::io_uring_prep_write(sqe, file.get(), text, 3, 0); });
  };
  probe::expect_equal(write_at_0("one"), 3, "first write at offset 0");
  probe::expect_equal(write_at_0("two"), 3, "second write at offset 0");
  probe::expect_equal(::pwrite(file.get(), "six", 3, 0), 3, "pwrite at offset 0");
  char content[10] = {};
  probe::expect_equal(::pread(file.get(), content, sizeof content, 0), 9, "pread");
  probe::expect(std::string_view(content) == "onetwosix", "each write went to the end");

  const auto [read_end, write_end] = probe::pipe_pair();
  probe::expect_equal(::write(write_end.get(), "x", 1), 1, "write to the pipe");
  loff_t offset = 0;
  probe::expect_equal(
      probe::result_of(::splice(read_end.get(), nullptr, file.get(), &offset, 1, 0)), -EINVAL,
      "splice into the file");
}

}  // namespace

int main() { return probe::run(show); }
