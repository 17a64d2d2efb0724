// One op moves at most 0x7ffff000 bytes: a longer one ends short, without an error.
#include "probe.hpp"

namespace {

constexpr std::size_t asked = 0x8000'0000;
constexpr long moved_at_most = 0x7fff'f000;

void show() {
  probe::ring ring;
  // /dev/null takes the range without touching it, so the range costs no memory.
  void* range =
      ::mmap(nullptr, asked, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) probe::skip("no 2 GiB of addresses: " + probe::in_words(-errno));
  const probe::descriptor sink(
      static_cast<int>(probe::must(::open("/dev/null", O_WRONLY | O_CLOEXEC), "open /dev/null")));

  const int by_write = ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_write(sqe, sink.get(), range, static_cast<unsigned>(asked), 0);
  });
  iovec parts[2] = {{range, asked / 2}, {range, asked / 2}};
  const int by_writev = ring.perform(
      [&](io_uring_sqe* sqe) { ::io_uring_prep_writev(sqe, sink.get(), parts, 2, 0); });
  const long by_call = probe::result_of(::write(sink.get(), range, asked));
  ::munmap(range, asked);

  probe::expect_equal(by_write, moved_at_most, "WRITE of 2 GiB");
  probe::expect_equal(by_writev, moved_at_most, "WRITEV of 2 GiB");
  probe::expect_equal(by_call, moved_at_most, "write(2) of 2 GiB");
}

}  // namespace

int main() { return probe::run(show); }
