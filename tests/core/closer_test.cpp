#include "core/closer.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "backend/loop.hpp"
#include "ops/table.hpp"
#include "support/all_given_back.hpp"
#include "support/scripted_backend.hpp"
#include "support/temp_dir.hpp"

namespace {
std::atomic<std::size_t> allocations{0};
}

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* made = std::malloc(bytes);
  if (made == nullptr) throw std::bad_alloc();
  return made;
}
[[gnu::noinline]] void operator delete(void* at) noexcept { std::free(at); }
[[gnu::noinline]] void operator delete(void* at, std::size_t) noexcept { std::free(at); }

namespace {

using namespace sluice;
using support::temp_dir;

// The backend performs each op at once, and notes which.
struct bench {
  bench() {
    asked.reserve(100);
    backend.events.reserve(10'000);
    backend.perform = [this](const op_request& r) {
      if (asked.size() < asked.capacity()) asked.push_back(r.kind);
      return row_of(r.kind).perform(r);
    };
  }
  void drain() {
    for (int i = 0; i < 100 && closing.pending() > 0; ++i) on.turn(0, 100);
    CHECK(closing.pending() == 0);
  }

  support::all_given_back watch;
  support::scripted_backend backend;
  tuning::counters counters;
  loop on{backend, counters};
  closer closing{on};
  std::vector<op_kind> asked;
};

dropped_file dropped(const temp_dir& dir, const char* name, bool temporary) {
  dropped_file made;
  made.fd.reset(dir.open(name));
  if (temporary) {
    made.directory.reset(::fcntl(dir.fd(), F_DUPFD_CLOEXEC, 0));
    made.temporary_name = name;
  }
  return made;
}

TEST_CASE("a dropped descriptor is closed in a turn of the loop, not at once") {
  const temp_dir dir;
  bench b;
  dropped_file file = dropped(dir, "file", false);
  const int fd = file.fd.get();
  b.closing.close_later(std::move(file));
  CHECK(b.closing.pending() == 1);
  CHECK(::fcntl(fd, F_GETFD) >= 0);
  b.drain();
  CHECK(::fcntl(fd, F_GETFD) < 0);
  CHECK(b.asked == std::vector{op_kind::close});
  CHECK(dir.has("file"));
}

TEST_CASE("a temporary name is removed before the file and its directory are closed") {
  const temp_dir dir;
  bench b;
  b.closing.close_later(dropped(dir, ".temporary", true));
  CHECK(dir.has(".temporary"));
  b.drain();
  CHECK_FALSE(dir.has(".temporary"));
  CHECK(b.asked == std::vector{op_kind::unlinkat, op_kind::close, op_kind::close});
}

TEST_CASE("a name that cannot be removed does not keep the file open") {
  const temp_dir dir;
  bench b;
  dropped_file file = dropped(dir, ".temporary", true);
  ::unlink(dir.at(".temporary").c_str());
  b.closing.close_later(std::move(file));
  b.drain();
  CHECK(b.asked == std::vector{op_kind::unlinkat, op_kind::close, op_kind::close});
}

TEST_CASE("where no thread can be made, descriptors are closed and names removed all the same") {
  const temp_dir dir;
  bench b;
  b.backend.perform = [](const op_request&) { return -std::int64_t{code::no_thread}; };
  dropped_file file = dropped(dir, "file", true);
  const int fd = file.fd.get();
  b.closing.close_later(std::move(file));
  for (int i = 0; i < 300; ++i) b.on.turn(0, 100);
  CHECK(b.closing.pending() == 0);
  CHECK(::fcntl(fd, F_GETFD) < 0);
  CHECK(dir.entry_count() == 0);
}

TEST_CASE("nothing dropped is nothing to do") {
  bench b;
  b.closing.close_later({});
  CHECK(b.closing.pending() == 0);
  CHECK(b.asked.empty());
  CHECK(b.on.ops_under_way() == 0);
}

TEST_CASE("many are closed side by side") {
  const temp_dir dir;
  bench b;
  for (int i = 0; i < 20; ++i) {
    b.closing.close_later(dropped(dir, ("file" + std::to_string(i)).c_str(), i % 2 == 0));
  }
  CHECK(b.closing.pending() == 20);
  b.on.turn(0, 100);
  CHECK(b.asked.size() == 20);  // the first step of each
  b.drain();
  CHECK(b.asked.size() == 40);
  CHECK(dir.entry_count() == 10);
}

TEST_CASE("a steady stream of files allocates nothing") {
  const temp_dir dir;
  bench b;
  const auto round = [&] {
    std::array<dropped_file, 4> files;
    for (dropped_file& f : files) f = dropped(dir, "x", true);  // short: no text on the heap
    const std::size_t before = allocations;
    for (dropped_file& f : files) b.closing.close_later(std::move(f));
    while (b.closing.pending() > 0) b.on.turn(0, 100);
    return allocations - before;
  };
  round();
  round();
  for (int i = 0; i < 5; ++i) CHECK(round() == 0);
}

}  // namespace
