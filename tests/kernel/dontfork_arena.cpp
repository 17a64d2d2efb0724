// Memory with MADV_DONTFORK does not exist in a forked child: it can neither see nor pin it, and
// the parent's pages stay where registration has pinned them.
#include "probe.hpp"

namespace {

// Whether the kernel can read a byte there, asked without risking a SIGSEGV.
long reading_of(const void* address) {
  const auto [read_end, write_end] = probe::pipe_pair();
  return probe::result_of(::write(write_end.get(), address, 1));
}

void show() {
  const probe::pages arena(16 * 4096);
  const probe::pages ordinary(4096);
  arena.data()[0] = 'a';
  ordinary.data()[0] = 'o';
  probe::must(::madvise(arena.data(), arena.bytes(), MADV_DONTFORK), "MADV_DONTFORK");

  probe::in_child([&] {
    probe::expect_equal(reading_of(ordinary.data()), 1, "ordinary memory in the child");
    probe::expect_equal(reading_of(arena.data()), -EFAULT, "the arena in the child");
    probe::expect_equal(reading_of(arena.data() + arena.bytes() - 1), -EFAULT, "the arena's end");
  });
  probe::expect_equal(reading_of(arena.data()), 1, "the arena in the parent");
  probe::expect(arena.data()[0] == 'a', "the parent's arena keeps its content");
}

}  // namespace

int main() { return probe::run(show); }
