// The data path allocates nothing: a long transfer calls operator new no more often than a short
// one.
#include <atomic>
#include <cstdlib>
#include <new>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/file_copy.hpp"
#include "sluice/relay.hpp"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* made = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (made == nullptr) throw std::bad_alloc();
  return made;
}

}  // namespace

// Not inlined: gcc would compare free with the operator new it knows, or delete with aligned_alloc.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(bytes); }
[[gnu::noinline]] void* operator new[](std::size_t bytes) { return counted(bytes); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* made) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete[](void* made) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete(void* made, std::size_t) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete[](void* made, std::size_t) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete(void* made, std::align_val_t) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete[](void* made, std::align_val_t) noexcept { std::free(made); }
[[gnu::noinline]] void operator delete(void* made, std::size_t, std::align_val_t) noexcept {
  std::free(made);
}
[[gnu::noinline]] void operator delete[](void* made, std::size_t, std::align_val_t) noexcept {
  std::free(made);
}

namespace {

using namespace conformance;

constexpr std::uint64_t mib = 1 << 20;

// The peer sends and takes from memory made before: only the engine allocates meanwhile.
std::vector<std::byte> memory(64 * mib);

void send_count(int fd, std::uint64_t count) { send_all(fd, std::span(memory).first(count)); }

void take_count(int fd, std::uint64_t count) {
  std::uint64_t taken = 0;
  while (taken < count) {
    const ssize_t got = ::recv(fd, memory.data(), memory.size(), 0);
    if (got <= 0) return;
    taken += static_cast<std::uint64_t>(got);
  }
}

sluice::task<sluice::result<sluice::receipt>> send_source(sluice::engine& e, sluice::stream to,
                                                          std::filesystem::path folder,
                                                          std::uint64_t length) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> from = co_await in->open_file("source");
  sluice::send_options options;
  options.length = length;
  co_return co_await sluice::send_from_file(to, *from, options);
}

// Calls of operator new from the start of the task to its end.
template <class Task>
std::uint64_t count_allocations(world& w, Task task) {
  bool whole = false;
  bool ended = false;
  const std::uint64_t before = allocations.load();
  w.engine().start(std::move(task), [&whole, &ended](const auto& r) {
    ended = true;
    if constexpr (requires { r.outcome; }) {
      whole = r.outcome.has_value();
    } else {
      whole = r.has_value();
    }
  });
  while (!ended) w.engine().run_once(1s);
  const std::uint64_t after = allocations.load();
  CHECK(whole);
  return after - before;
}

class counting_check : public sluice::body_check {
 public:
  sluice::result<void> update(std::span<const std::byte> bytes) noexcept override {
    bytes_ += bytes.size();
    return {};
  }
  sluice::result<void> finish() noexcept override { return {}; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t bytes_ = 0;
};

std::uint64_t receive(world& w, std::uint64_t length, sluice::body_check* check = nullptr) {
  stream_pair ends = stream_pair::tcp();
  std::atomic<bool> go{false};
  peer sender(ends.take_theirs(), [length, &go](int fd) {
    go.wait(false);
    send_count(fd, length);
  });
  upload_request request{w.folder().path(), "", {}};
  request.body.length = length;
  request.body.check = check;
  sluice::stream from = adopt(w.engine(), ends.take_ours());
  go = true;
  go.notify_one();
  return count_allocations(w, receive_upload(w.engine(), std::move(from), request));
}

std::uint64_t send(world& w, std::uint64_t length) {
  stream_pair ends = stream_pair::tcp();
  peer taker(ends.take_theirs(), [length](int fd) { take_count(fd, length); });
  sluice::stream to = adopt(w.engine(), ends.take_ours());
  return count_allocations(w, send_source(w.engine(), std::move(to), w.folder().path(), length));
}

// The pool makes a worker when all others are busy, which can happen as late as in the long one,
// and twice there; the list of them grows, too. Of its blocks there are 200 more.
constexpr std::uint64_t worker_more = 20;

// Posts 16 KiB blocks of `length` in all, from back to front within 1 MiB, and flushes.
sluice::task<sluice::result<void>> post_blocks(sluice::engine& e, sluice::block_writer& to,
                                               std::uint64_t length) {
  constexpr std::uint64_t payload = 16 << 10;
  for (std::uint64_t i = 0; i < length / payload; ++i) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> leased = co_await leasing;
    if (!leased) co_return std::unexpected(leased.error());
    while (!to.has_room()) {
      const sluice::result<void> roomy = co_await to.room();
      if (!roomy) co_return roomy;
    }
    const auto bytes = std::as_bytes(leased->bytes()).first(payload);
    const std::uint64_t index = i / 64 * 64 + (63 - i % 64);
    const sluice::result<void> posted = to.post(std::move(*leased), bytes, index * payload);
    if (!posted) co_return posted;
  }
  co_return co_await to.flush();
}

sluice::task<sluice::result<sluice::relay_receipts>> relay_once(sluice::stream first,
                                                                sluice::stream second) {
  co_return co_await sluice::relay(first, second);
}

std::uint64_t relay(world& w, std::uint64_t length) {
  stream_pair left = stream_pair::tcp();
  stream_pair right = stream_pair::tcp();
  peer sender(left.take_theirs(), [length](int fd) {
    send_count(fd, length);
    ::shutdown(fd, SHUT_WR);
    take_count(fd, 1);
  });
  peer taker(right.take_theirs(), [length](int fd) { take_count(fd, length); });
  sluice::stream first = adopt(w.engine(), left.take_ours());
  sluice::stream second = adopt(w.engine(), right.take_ours());
  return count_allocations(w, relay_once(std::move(first), std::move(second)));
}

sluice::task<sluice::result<sluice::receipt>> copy_once(sluice::file from, sluice::file into,
                                                        std::uint64_t length) {
  const sluice::copy_options options{.length = length};
  co_return co_await sluice::copy_file(from, into, options);
}

// The first of the bytes are islands of data in a hole.
std::uint64_t copy(world& w, std::uint64_t length) {
  const int from = w.folder().open("source");
  const int into = w.folder().open("target");
  for (std::uint64_t at = 0; at < length; at += 32 * 1024) {
    REQUIRE(::pwrite(from, memory.data(), 5000, static_cast<off_t>(at)) == 5000);
  }
  REQUIRE(::ftruncate(from, static_cast<off_t>(length)) == 0);
  sluice::result<sluice::file> source = sluice::file::adopt(w.engine(), from);
  sluice::result<sluice::file> target = sluice::file::adopt(w.engine(), into);
  return count_allocations(w, copy_once(std::move(*source), std::move(*target), length));
}

std::vector<std::string> paths_of(const setting& on) {
  if (on.direct) return {"direct", "copy"};
  return {"copy"};
}

}  // namespace

TEST_CASE("a long upload allocates no more than a short one") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      receive(w, 8 * mib);  // makes worker threads and the lists that are kept
      receive(w, 8 * mib);
      const std::uint64_t small = receive(w, 8 * mib);
      const std::uint64_t large = receive(w, 64 * mib);
      CAPTURE(small);
      CAPTURE(large);
      CHECK(large <= small + worker_more);
      CHECK(small < 200);
    }
  }
}

TEST_CASE("a long upload with a check allocates no more than a short one") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      counting_check warm;
      receive(w, 8 * mib, &warm);
      receive(w, 8 * mib, &warm);
      counting_check check;
      const std::uint64_t small = receive(w, 8 * mib, &check);
      const std::uint64_t large = receive(w, 64 * mib, &check);
      CAPTURE(small);
      CAPTURE(large);
      CHECK(check.bytes() == 72 * mib);
      CHECK(large <= small + worker_more);
      CHECK(small < 200);
    }
  }
}

TEST_CASE("a long download allocates no more than a short one") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.send.path", path}});
      make_file(w.at("source"), memory);
      send(w, 8 * mib);
      send(w, 8 * mib);
      const std::uint64_t small = send(w, 8 * mib);
      const std::uint64_t large = send(w, 64 * mib);
      CAPTURE(small);
      CAPTURE(large);
      CHECK(large <= small + worker_more);
      CHECK(small < 200);
    }
  }
}

TEST_CASE("posting many blocks allocates no more than posting few") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.block_bytes", "16K"}});
    make_file(w.at("file"), {});
    const int fd = ::open(w.at("file").c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
    REQUIRE(into.has_value());
    std::optional<sluice::block_writer> writer;
    const auto open = [](sluice::file& f,
                         std::optional<sluice::block_writer>& made) -> sluice::task<int> {
      sluice::result<sluice::block_writer> opened = co_await sluice::block_writer::open(f);
      if (opened) made = std::move(*opened);
      co_return opened ? 0 : opened.error().code;
    };
    REQUIRE(w.run(open(*into, writer)) == 0);
    for (int i = 0; i < 3; ++i) count_allocations(w, post_blocks(w.engine(), *writer, 32 * mib));
    const std::uint64_t small = count_allocations(w, post_blocks(w.engine(), *writer, 4 * mib));
    const std::uint64_t large = count_allocations(w, post_blocks(w.engine(), *writer, 32 * mib));
    CAPTURE(small);
    CAPTURE(large);
    CHECK(large <= small + worker_more + 8);  // and a chunk of nodes, for more blocks at once
    CHECK(small < 20);
  }
}

TEST_CASE("a long relay allocates no more than a short one") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string path : {"splice", "copy"}) {
      CAPTURE(path);
      world w(on, {{"sluice.relay.path", path}});
      relay(w, 8 * mib);
      const std::uint64_t small = relay(w, mib);
      const std::uint64_t large = relay(w, 48 * mib);
      CHECK(large <= small + worker_more);
      CHECK(small < 50);
    }
  }
}

TEST_CASE("a copy of a long file of many pieces allocates no more than that of a short one") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string path : {"auto", "copy"}) {
      CAPTURE(path);
      world w(on, {{"sluice.copy.path", path}, {"sluice.copy.chunk_bytes", "4K"}});
      copy(w, 2 * mib);
      copy(w, 2 * mib);
      const std::uint64_t small = copy(w, 2 * mib);
      const std::uint64_t large = copy(w, 16 * mib);
      CHECK(large <= small + worker_more);
      CHECK(small < 50);
    }
  }
}
