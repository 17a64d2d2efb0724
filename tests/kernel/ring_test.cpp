#include "kernel/ring.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/clock.hpp"
#include "kernel/fd.hpp"
#include "support/all_given_back.hpp"
#include "support/needs_ring.hpp"
#include "support/seeded_data.hpp"

namespace {

using namespace sluice::kernel;

ring make(const ring_options& options = {}) {
  auto made = ring::make(options);
  if (!made) FAIL("no ring: ", describe(made.error()));
  return std::move(*made);
}

void add_nop(ring& r, std::uint64_t user_data) {
  io_uring_sqe* sqe = r.entry();
  REQUIRE(sqe != nullptr);
  io_uring_prep_nop(sqe);
  io_uring_sqe_set_data64(sqe, user_data);
}

std::vector<std::uint64_t> harvested(ring& r) {
  std::vector<std::uint64_t> seen;
  r.harvest([&](std::uint64_t user_data, int result, unsigned) {
    CHECK(result == 0);
    seen.push_back(user_data);
  });
  return seen;
}

TEST_CASE("a new ring has the sizes asked for, and nothing in it of its own trial") {
  const support::all_given_back watch;
  ring r = make({.entries = 16, .completion_entries = 128});
  CHECK(r.submission_entries() == 16);
  CHECK(r.completion_entries() == 128);
  CHECK(r.staged() == 0);
  CHECK(harvested(r).empty());
  CHECK_FALSE(r.overflown());
}

TEST_CASE("every feature is named once, with a reason exactly where it is absent") {
  const ring r = make();
  std::set<std::string_view> names;
  for (const ring_feature& f : r.features()) {
    CAPTURE(f.name);
    CHECK(std::string_view(f.name).starts_with("ring."));
    CHECK(names.insert(f.name).second);
    CHECK(f.reason.empty() == f.present);
  }
  CHECK(names.contains("ring.defer_taskrun"));
}

TEST_CASE("a completion queue smaller than the submission queue is made as large") {
  const ring r = make({.entries = 64, .completion_entries = 16});
  CHECK(r.completion_entries() >= 64);
}

TEST_CASE("entries run out, and are there again after a submission") {
  ring r = make({.entries = 8, .completion_entries = 64});
  for (std::uint64_t i = 0; i < 8; ++i) add_nop(r, i);
  CHECK(r.staged() == 8);
  CHECK(r.entry() == nullptr);
  CHECK(r.submit() == 0);
  CHECK(r.staged() == 0);
  add_nop(r, 8);
  CHECK(r.submit_and_wait(0) == 0);
  CHECK(harvested(r) == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(harvested(r).empty());
}

TEST_CASE("a wait ends at its limit when nothing completes, or sooner when it is interrupted") {
  ring r = make();
  std::int64_t longest = 0;
  for (int i = 0; i < 20 && longest < 3'000'000; ++i) {
    const std::int64_t before = now_ns();
    CHECK(r.submit_and_wait(3'000'000) == 0);
    longest = std::max(longest, now_ns() - before);
  }
  CHECK(longest >= 3'000'000);
  CHECK(longest < 5'000'000'000);
}

TEST_CASE("a wait without limit ends with a completion") {
  ring r = make();
  const wake_fd wake = std::move(*wake_fd::make());
  io_uring_sqe* sqe = r.entry();
  io_uring_prep_poll_add(sqe, wake.get(), POLLIN);
  io_uring_sqe_set_data64(sqe, 1);
  REQUIRE(r.submit_and_wait(0) == 0);
  int seen = 0;
  const auto count = [&](std::uint64_t, int, unsigned) { ++seen; };
  r.harvest(count);
  CHECK(seen == 0);
  wake.ring();
  while (seen == 0) {
    REQUIRE(r.submit_and_wait(-1) == 0);
    r.harvest(count);
  }
  CHECK(seen == 1);
}

TEST_CASE("a ring says when entering it would bring nothing") {
  ring r = make({.entries = 8, .completion_entries = 16});
  const auto told =
      std::ranges::find(r.features(), std::string_view("ring.taskrun_flag"),
                        [](const ring_feature& f) { return std::string_view(f.name); });
  REQUIRE(told != r.features().end());
  if (!told->present) return;    // then it is always entered
  CHECK(r.has_to_be_entered());  // nobody owns it yet
  REQUIRE(r.submit_and_wait(0) == 0);
  CHECK_FALSE(r.has_to_be_entered());
  const wake_fd wake = std::move(*wake_fd::make());
  io_uring_sqe* sqe = r.entry();
  io_uring_prep_poll_add(sqe, wake.get(), POLLIN);
  io_uring_sqe_set_data64(sqe, 1);
  CHECK(r.has_to_be_entered());
  REQUIRE(r.submit_and_wait(0) == 0);
  CHECK_FALSE(r.has_to_be_entered());
  wake.ring();
  CHECK(r.has_to_be_entered());
  REQUIRE(r.submit_and_wait(0) == 0);
  CHECK_FALSE(r.has_to_be_entered());  // what came is in the queue already
  int seen = 0;
  r.harvest([&](std::uint64_t, int, unsigned) { ++seen; });
  CHECK(seen == 1);
  for (std::uint64_t i = 0; i < 40; ++i) {
    if (r.staged() == 8) REQUIRE(r.submit() == 0);
    add_nop(r, i);
  }
  REQUIRE(r.submit() == 0);
  REQUIRE(r.overflown());
  CHECK(r.has_to_be_entered());
}

TEST_CASE("completions beyond the queue are kept and can still be harvested") {
  ring r = make({.entries = 8, .completion_entries = 16});
  constexpr std::uint64_t count = 40;
  std::uint64_t next = 0;
  while (next < count) {
    while (next < count && r.staged() < 8) add_nop(r, next++);
    REQUIRE(r.submit() == 0);
  }
  std::vector<std::uint64_t> seen;
  for (int i = 0; i < 20 && seen.size() < count; ++i) {
    REQUIRE(r.submit_and_wait(0) == 0);
    const auto more = harvested(r);
    seen.insert(seen.end(), more.begin(), more.end());
  }
  CHECK(seen.size() == count);
}

TEST_CASE("a moved ring works, and closes once") {
  const support::all_given_back watch;
  ring first = make();
  add_nop(first, 5);
  ring second(std::move(first));
  CHECK(second.submit_and_wait(-1) == 0);
  CHECK(harvested(second) == std::vector<std::uint64_t>{5});
}

TEST_CASE("a ring is its maker's to prepare, and belongs to the thread that first submits") {
  ring r = make({.entries = 16, .completion_entries = 64});
  REQUIRE(r.open_buffer_table(4) == 0);
  std::vector<std::byte> memory(8192);
  std::jthread([&] {
    CHECK(r.register_buffer(0, {memory.data(), memory.size()}) == 0);
    add_nop(r, 3);
    CHECK(r.submit_and_wait(-1) == 0);
    CHECK(harvested(r) == std::vector<std::uint64_t>{3});
  }).join();
  CHECK(r.submit_and_wait(0) == EEXIST);
  add_nop(r, 4);
  CHECK(r.submit() == EEXIST);
}

TEST_CASE("a ring that ends in a thread other than its owner's leaves that thread's ring alone") {
  const support::all_given_back watch;
  ring mine = make();
  REQUIRE(mine.submit_and_wait(0) == 0);
  {
    ring other = make();
    std::jthread([&] { REQUIRE(other.submit_and_wait(0) == 0); }).join();
  }
  add_nop(mine, 7);
  CHECK(mine.submit_and_wait(-1) == 0);
  CHECK(harvested(mine) == std::vector<std::uint64_t>{7});
}

TEST_CASE("a ring for which there is no memory is tried at half the size, not below what works") {
  ring_options o{.entries = 256, .completion_entries = 16'384};
  o = halved(o);
  CHECK(o.entries == 128);
  CHECK(o.completion_entries == 8192);
  for (int i = 0; i < 20; ++i) o = halved(o);
  CHECK(o.entries == 8);
  CHECK(o.completion_entries == 16);
  CHECK(halved({.entries = 64, .completion_entries = 64}).completion_entries == 32);
}

TEST_CASE("the opcodes that the kernel knows include those of Linux 5.6 and end somewhere") {
  ring r = make();
  const std::vector<bool> known = r.supported_opcodes();
  CHECK(known.size() == 256);
  for (const int opcode : {IORING_OP_NOP, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_OPENAT2}) {
    CHECK(known[static_cast<std::size_t>(opcode)]);
  }
  CHECK_FALSE(known[255]);
}

TEST_CASE("a buffer fills its slot of the table and no other") {
  ring r = make();
  std::vector<std::byte> memory(8192);
  CHECK(r.register_buffer(0, {memory.data(), memory.size()}) != 0);  // no table yet
  REQUIRE(r.open_buffer_table(4) == 0);
  CHECK(r.open_buffer_table(4) == EBUSY);
  CHECK(r.register_buffer(2, {memory.data(), memory.size()}) == 0);
  CHECK(r.register_buffer(4, {memory.data(), memory.size()}) == EINVAL);
  CHECK(r.register_buffer(1, {nullptr, 4096}) != 0);
}

TEST_CASE("an eventfd is signalled when a completion falls due") {
  ring r = make();
  const wake_fd due = std::move(*wake_fd::make());
  REQUIRE(r.register_eventfd(due.get()) == 0);
  CHECK(r.register_eventfd(due.get()) == EBUSY);
  add_nop(r, 1);
  REQUIRE(r.submit() == 0);
  pollfd asked{due.get(), POLLIN, 0};
  CHECK(::poll(&asked, 1, 5000) == 1);
}

TEST_CASE("the error of a ring that cannot be made is the kernel's") {
  // In a child, whose limit it may lower.
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_NOFILE, &none);
    const auto made = ring::make({});
    ::_exit(!made && made.error().code == EMFILE ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a user's small RLIMIT_MEMLOCK gives a smaller ring, or ENOMEM, and never a crash") {
  for (const rlim_t bytes : {0UL, 16'384UL, 65'536UL, 262'144UL}) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit small{bytes, bytes};
      ::setrlimit(RLIMIT_MEMLOCK, &small);
      if (::geteuid() == 0 && ::setuid(65'534) != 0) ::_exit(2);
      const auto made = ring::make({.entries = 256, .completion_entries = 65'536});
      if (!made) ::_exit(made.error().code == ENOMEM || made.error().code == EPERM ? 0 : 1);
      ::_exit(made->submission_entries() >= 8 ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CAPTURE(bytes);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

}  // namespace
