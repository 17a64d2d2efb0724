// Whether pages of a file are in the cache can be asked without waiting for a disk: a read with
// RWF_NOWAIT says EAGAIN for a page that is not there, and begins to read it; cachestat counts the
// pages of a range, which also finds those missing in its middle.
#include <sys/syscall.h>
#include <sys/uio.h>

#include "probe.hpp"

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t pages = 4096;  // more than any folio of the cache has

long read_now(int file, std::size_t offset) {
  char byte = 0;
  iovec one{&byte, 1};
  return probe::result_of(::preadv2(file, &one, 1, static_cast<off_t>(offset), RWF_NOWAIT));
}

struct range {
  std::uint64_t off;
  std::uint64_t len;
};
struct counts {
  std::uint64_t cache, dirty, writeback, evicted, recently_evicted;
};
constexpr long cachestat_number = 451;

std::uint64_t cached_pages(int file) {
  const range all{0, pages * page};
  counts found{};
  const long result = probe::result_of(::syscall(cachestat_number, file, &all, &found, 0));
  if (result == -ENOSYS || result == -EPERM) probe::skip("cachestat is not to be had here");
  probe::expect_equal(result, 0, "cachestat");
  return found.cache;
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const std::string content(pages * page, 'x');
  probe::expect_equal(probe::result_of(::pwrite(file.get(), content.data(), content.size(), 0)),
                      static_cast<long>(content.size()), "pwrite");
  probe::must(::fsync(file.get()), "fsync");
  const long now = read_now(file.get(), 0);
  if (now == -EOPNOTSUPP) probe::skip("this filesystem knows no RWF_NOWAIT");
  probe::expect_equal(now, 1, "RWF_NOWAIT of a page just written");
  probe::expect_equal(static_cast<long>(cached_pages(file.get())), pages, "pages in the cache");

  // A quarter, in the middle.
  ::posix_fadvise(file.get(), pages / 4 * page, pages / 4 * page, POSIX_FADV_DONTNEED);
  const auto left = static_cast<long>(cached_pages(file.get()));
  if (left == pages) probe::skip("this filesystem evicts nothing");
  probe::expect(left < static_cast<long>(pages), "cachestat misses the evicted pages");
  probe::expect_equal(read_now(file.get(), 0), 1, "RWF_NOWAIT before them");
  probe::expect_equal(read_now(file.get(), (pages - 1) * page), 1, "RWF_NOWAIT behind them");

  // The read that it begins may be through before it looks again, with a fast disk nearly always:
  // many tries.
  long there = 1;
  for (int i = 0; i < 5000 && there != -EAGAIN; ++i) {
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
    there = read_now(file.get(), 0);
  }
  probe::expect_equal(there, -EAGAIN, "RWF_NOWAIT of an evicted page");
  for (int i = 0; i < 5000 && there == -EAGAIN; ++i) {
    ::usleep(1000);
    there = read_now(file.get(), 0);
  }
  probe::expect_equal(there, 1, "RWF_NOWAIT of the same page, some time later");
}

}  // namespace

int main() { return probe::run(show); }
