// After a short read or write of a regular file the ring goes on by itself. On FUSE, where the
// daemon takes no asynchronous direct I/O and the file has no page cache, it begins at the same
// offset again: a full count, and bytes in the wrong place. pread(2) and pwrite(2) do not go on.
#include <algorithm>
#include <string>

#include "small_filesystem.hpp"
#include "support/fault_fs.hpp"

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t file_bytes = 3 * page;

std::size_t size_of(const probe::descriptor& file) {
  struct stat info{};
  probe::must(::fstat(file.get(), &info), "fstat");
  return static_cast<std::size_t>(info.st_size);
}

// The end of the file makes a read short, on any filesystem.
void show_read(probe::ring& ring, const std::string& path) {
  const probe::descriptor file(
      static_cast<int>(probe::must(::open(path.c_str(), O_RDONLY | O_CLOEXEC), "open")));
  const probe::pages into(2 * file_bytes);
  const long plain = probe::result_of(::pread(file.get(), into.data(), into.bytes(), page));
  probe::expect_equal(plain, file_bytes - page, "pread over the end of the file");
  std::fill_n(into.data(), into.bytes(), '-');
  const int result = ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_read(sqe, file.get(), into.data(), static_cast<unsigned>(into.bytes()), page);
  });
  if (result == plain) probe::skip("this kernel goes on behind what it has read");
  probe::expect(result > plain,
                "the ring says more than the file has, got " + probe::in_words(result));
  probe::expect(std::string_view(into.data(), page) ==
                    std::string_view(into.data() + file_bytes - page, page),
                "what follows the end is the beginning of the range once more");
}

// The daemon takes one page of the first write.
void show_write(probe::ring& ring, support::fault_fs& disk) {
  const std::string path = disk.mount_point() + "/written";
  const probe::descriptor file(static_cast<int>(
      probe::must(::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600), "open")));
  const probe::pages from(2 * page);
  std::fill_n(from.data(), page, 'a');
  std::fill_n(from.data() + page, page, 'b');
  disk.orders().reset();
  disk.orders().short_bytes = page;
  disk.orders().short_every = 1;
  const int result = ring.perform(
      [&](io_uring_sqe* sqe) { ::io_uring_prep_write(sqe, file.get(), from.data(), 2 * page, 0); });
  probe::expect_equal(result, 2 * page, "a direct write that the daemon cut short");
  probe::expect_equal(static_cast<long>(size_of(file)), page, "size of the file");
  const probe::pages seen(page);
  probe::must(::pread(file.get(), seen.data(), page, 0), "pread");
  probe::expect(seen.data()[0] == 'b', "the second page lies where the first should");
}

void show() {
  if (::geteuid() != 0) probe::skip("mounting FUSE needs the superuser");
  if (!support::fault_fs::is_possible()) probe::skip("no /dev/fuse");
  const probe::temp_dir dir;
  probe::in_child([&dir] {
    probe::private_mounts();
    support::fault_fs disk(dir.path(), {.direct_io = true, .wait_for_direct = true});
    const std::string content =
        std::string(page, '1') + std::string(page, '2') + std::string(file_bytes - 2 * page, '3');
    const std::string path = disk.mount_point() + "/read";
    const probe::descriptor file(static_cast<int>(
        probe::must(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "open")));
    probe::expect_equal(probe::result_of(::write(file.get(), content.data(), file_bytes)),
                        file_bytes, "write");
    probe::ring ring;
    show_read(ring, path);
    show_write(ring, disk);
  });
}

}  // namespace

int main() { return probe::run(show); }
