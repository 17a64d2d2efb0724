// Registered buffers count against RLIMIT_MEMLOCK: beyond it an ordinary user gets ENOMEM, and the
// ring goes on working without them. Ring memory counts as well (again since Linux 6.14), and that
// of a ring that was given up still counts for a moment.
#include <sys/resource.h>
#include <sys/syscall.h>

#include "probe.hpp"

namespace {

constexpr std::size_t limit_bytes = 65536;

void show_as_ordinary_user() {
  const rlimit limit{limit_bytes, limit_bytes};
  probe::must(::setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
  probe::become_ordinary_user();

  // 4096 entries are 256 KiB of submission entries alone.
  io_uring large{};
  const int refused = ::io_uring_queue_init(4096, &large, 0);
  if (refused == 0) ::io_uring_queue_exit(&large);
  std::fprintf(stderr, "a ring of 4096 entries: %s\n", probe::in_words(refused).c_str());
  probe::expect(refused == 0 || refused == -ENOMEM, "a ring too large for the limit is ENOMEM");

  probe::ring ring(8);
  const probe::pages memory(1 << 20);
  const auto registration_of = [&](std::size_t bytes) {
    const iovec buffer{memory.data(), bytes};
    return ::io_uring_register_buffers(ring.get(), &buffer, 1);
  };
  probe::expect_equal(registration_of(memory.bytes()), -ENOMEM, "registration over the limit");
  probe::expect_equal(registration_of(limit_bytes + 4096), -ENOMEM, "registration just over it");
  const int nop = ring.perform([](io_uring_sqe* sqe) { ::io_uring_prep_nop(sqe); });
  probe::expect_equal(nop, 0, "an op after the refused registration");
  const int small = registration_of(8192);
  std::fprintf(stderr, "8 KiB below the limit: %s\n", probe::in_words(small).c_str());
  // what is locked is given back with the registration
  if (small == 0) {
    probe::expect_equal(::io_uring_unregister_buffers(ring.get()), 0, "unregister_buffers");
    probe::expect_equal(registration_of(8192), 0, "the same registration once more");
  }

  constexpr int rings = 50;
  int made = 0;
  const auto make_and_give_up = [] {
    io_uring short_lived{};
    const int answer = ::io_uring_queue_init(256, &short_lived, 0);
    if (answer == 0) ::io_uring_queue_exit(&short_lived);
    return answer;
  };
  for (int i = 0; i < rings; ++i) {
    if (make_and_give_up() == 0) ++made;
  }
  std::fprintf(stderr, "rings made one after the other: %d of %d\n", made, rings);
  int again = -ENOMEM;
  for (int waited_ms = 0; again == -ENOMEM && waited_ms < probe::patience_ms; waited_ms += 10) {
    ::usleep(10'000);
    again = make_and_give_up();
  }
  if (made > 0) probe::expect_equal(again, 0, "a ring once the memory of the others is back");
}

void show() {
  probe::ring ring;  // skips before the fork where rings are refused
  probe::in_child(show_as_ordinary_user);
}

}  // namespace

int main() { return probe::run(show); }
