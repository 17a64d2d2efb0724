// A file opened once more through /proc/self/fd has a description of its own: O_DIRECT of one is
// not the other's, a name is not needed, and what was written through one is read through the
// other. A duplicate has none: it shares the flags.
#include "probe.hpp"

namespace {

constexpr std::size_t page = 4096;

bool is_direct(int fd) { return (probe::must(::fcntl(fd, F_GETFL), "F_GETFL") & O_DIRECT) != 0; }

void expect_content(int fd, off_t offset, std::size_t bytes, char wanted, std::string_view what) {
  const std::string expected(bytes, wanted);
  std::string seen(bytes, '?');
  probe::expect_equal(probe::result_of(::pread(fd, seen.data(), bytes, offset)),
                      static_cast<long>(bytes), what);
  probe::expect(seen == expected, what);
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  const int opened = ::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (opened < 0 && errno == ENOENT) probe::skip("no /proc here");
  if (opened < 0 && errno == EINVAL) probe::skip("O_DIRECT is refused by this filesystem");
  const probe::descriptor direct(static_cast<int>(probe::must(opened, "open of /proc/self/fd")));
  const probe::descriptor twin(static_cast<int>(probe::must(::dup(file.get()), "dup")));

  probe::expect(is_direct(direct.get()), "the one opened again is direct");
  probe::expect(!is_direct(file.get()), "the first one is not");
  probe::make_direct(file.get());
  probe::expect(is_direct(twin.get()), "a duplicate shares the flag");
  probe::must(::fcntl(file.get(), F_SETFL, 0), "F_SETFL");
  probe::expect(is_direct(direct.get()), "and the one opened again does not");

  // Three pages in the page cache, of which the middle one is then written around it, and the last
  // one is dirty in another sector than the direct write's.
  const std::string old(3 * page, 'o');
  probe::expect_equal(::pwrite(file.get(), old.data(), old.size(), 0), 3 * page, "pwrite");
  const probe::pages memory(page);
  std::memset(memory.data(), 'n', page);
  probe::expect_equal(probe::result_of(::pwrite(direct.get(), memory.data(), page, page)), page,
                      "a direct write over cached pages");
  expect_content(file.get(), 0, page, 'o', "the page before, through the cache");
  expect_content(file.get(), page, page, 'n', "the page written around the cache");
  expect_content(file.get(), 2 * page, page, 'o', "the page behind");

  probe::expect_equal(::pwrite(file.get(), "c", 1, 2 * page), 1, "a byte through the cache");
  probe::expect_equal(probe::result_of(::pwrite(direct.get(), memory.data(), page, 0)), page,
                      "a direct write beside a dirty page");
  expect_content(file.get(), 0, 2 * page, 'n', "both written around the cache");
  expect_content(file.get(), 2 * page, 1, 'c', "the dirty byte");
  expect_content(file.get(), 2 * page + 1, page - 1, 'o', "and those behind it");
}

}  // namespace

int main() { return probe::run(show); }
