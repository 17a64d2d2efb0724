// Reads and writes with RWF_DONTCACHE leave no pages in the cache, those of a write once they are
// written back; and whether the file takes the flag is told by a read behind its end.
#include <sys/syscall.h>
#include <sys/uio.h>

#include <limits>

#include "probe.hpp"

namespace {

constexpr int rwf_dontcache = 0x80;
constexpr std::size_t bytes = 1 << 20;
constexpr long cachestat_number = 451;

struct range {
  std::uint64_t off;
  std::uint64_t len;
};
struct counts {
  std::uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

std::uint64_t cached_pages(int file) {
  const range all{0, bytes};
  counts found{};
  const long result = probe::result_of(::syscall(cachestat_number, file, &all, &found, 0));
  if (result == -ENOSYS || result == -EPERM) probe::skip("cachestat is not to be had here");
  probe::expect_equal(result, 0, "cachestat");
  return found.cache;
}

void expect_no_pages(int file, const char* after) {
  for (int i = 0; i < 2000 && cached_pages(file) > 0; ++i) ::usleep(5000);
  probe::expect_equal(static_cast<long>(cached_pages(file)), 0, after);
}

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  std::string content(bytes, 'x');
  iovec all{content.data(), content.size()};
  iovec one{content.data(), 1};
  const off_t behind = std::numeric_limits<off_t>::max() - 1;
  const long asked = probe::result_of(::preadv2(file.get(), &one, 1, behind, rwf_dontcache));
  const long written = probe::result_of(::pwritev2(file.get(), &all, 1, 0, rwf_dontcache));
  if (asked == -EOPNOTSUPP) {
    probe::expect_equal(written, -EOPNOTSUPP, "a write, where a read behind the end was refused");
    probe::skip("no RWF_DONTCACHE here");
  }
  probe::expect_equal(asked, 0, "a read behind the end");
  probe::expect_equal(written, static_cast<long>(bytes), "a write");
  expect_no_pages(file.get(), "pages after the write");
  probe::expect_equal(probe::result_of(::preadv2(file.get(), &all, 1, 0, rwf_dontcache)),
                      static_cast<long>(bytes), "a read");
  expect_no_pages(file.get(), "pages after the read");
}

}  // namespace

int main() { return probe::run(show); }
