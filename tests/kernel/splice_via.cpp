// The ring hands every splice to a worker thread of the kernel, even one that would not wait: after
// it the process has a thread more than before. The same call made inline needs none.
#include "probe.hpp"

namespace {

std::size_t threads() {
  const auto entries = std::filesystem::directory_iterator("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

void show() {
  probe::ring ring;
  ring.require(IORING_OP_SPLICE, "IORING_OP_SPLICE");
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const std::string content(4096, 'x');
  probe::must(::pwrite(file.get(), content.data(), content.size(), 0), "pwrite");
  const auto [read_end, write_end] = probe::pipe_pair();
  const std::size_t before = threads();

  loff_t offset = 0;
  probe::expect_equal(
      probe::result_of(::splice(file.get(), &offset, write_end.get(), nullptr, 100, 0)), 100,
      "splice(2) of a cached page into an empty pipe");
  probe::expect_equal(static_cast<long>(threads()), static_cast<long>(before), "threads after it");

  const int spliced = ring.perform([&](io_uring_sqe* sqe) {
    ::io_uring_prep_splice(sqe, file.get(), 0, write_end.get(), -1, 100, 0);
  });
  probe::expect_equal(spliced, 100, "IORING_OP_SPLICE of the same page");
  probe::expect(threads() > before, "the ring used a thread for it");
}

}  // namespace

int main() { return probe::run(show); }
