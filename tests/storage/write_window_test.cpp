#include "storage/write_window.hpp"

#include "conformance/suite.hpp"
#include "core/this_scope.hpp"
#include "support/dies.hpp"
#include "support/recording_check.hpp"

namespace {

using namespace conformance;

constexpr std::uint64_t block = 256 * 1024;

struct observed {
  int failure = 0;
  std::uint64_t bytes = 0;
  std::uint64_t ops = 0;
  std::uint64_t leases_max = 0;
  bool drained = false;
};

// Writes `count` blocks of the pattern, the odd ones as two parts; with a check the last one ends
// the body.
sluice::task<observed> write_blocks(sluice::engine& e, sluice::file& into, std::size_t depth,
                                    std::size_t count, sluice::body_check* check = nullptr) {
  observed seen;
  sluice::write_window window(into.state(), depth, co_await sluice::this_scope{}, check);
  for (std::size_t i = 0; i < count; ++i) {
    sluice::lease_await leasing = e.acquire_block();
    sluice::result<sluice::lease> leased = co_await leasing;
    if (!leased) {
      seen.failure = leased.error().code;
      break;
    }
    support::fill_pattern(leased->bytes(), 1, i * block);
    if (!window.has_room() && !co_await window.room()) break;
    if (window.failure() != 0) break;
    const iovec halves[2] = {{leased->data(), 1000}, {leased->data() + 1000, block - 1000}};
    const sluice::write_place place{.offset = i * block, .ends_body = i + 1 == count};
    if (i % 2 == 0) {
      window.write(std::move(*leased), block, place);
    } else {
      window.write(std::move(*leased), halves, place);
    }
    seen.leases_max = std::max(seen.leases_max, *e.counters().get("sluice.memory.leases_in_use"));
  }
  const sluice::result<void> drained = co_await window.drained();
  seen.drained = drained.has_value();
  if (!drained) seen.failure = drained.error().code;
  seen.bytes = window.bytes_written();
  seen.ops = window.ops();
  co_return seen;
}

// Writes one block of which the second half is no part of the body.
sluice::task<observed> write_padded(sluice::engine& e, sluice::file& into,
                                    sluice::body_check* check) {
  observed seen;
  sluice::write_window window(into.state(), 1, co_await sluice::this_scope{}, check);
  sluice::lease_await leasing = e.acquire_block();
  sluice::result<sluice::lease> leased = co_await leasing;
  if (!leased) co_return seen;
  support::fill_pattern(leased->bytes(), 1, 0);
  window.write(std::move(*leased), block / 2, {.padding = block / 2, .ends_body = true});
  const sluice::result<void> drained = co_await window.drained();
  seen.drained = drained.has_value();
  seen.bytes = window.bytes_written();
  co_return seen;
}

sluice::task<observed> end_at_once(sluice::engine&, sluice::file& into, sluice::body_check* check) {
  observed seen;
  sluice::write_window window(into.state(), 1, co_await sluice::this_scope{}, check);
  window.end_empty_body();
  const sluice::result<void> drained = co_await window.drained();
  seen.drained = drained.has_value();
  if (!drained) seen.failure = drained.error().code;
  seen.ops = window.ops();
  co_return seen;
}

sluice::file adopted(world& w, const std::string& name, int flags) {
  const int fd = ::open(w.at(name).c_str(), flags | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

}  // namespace

TEST_CASE("a window writes every block to its place with no more than its depth in flight") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::size_t depth : {1, 2, 7}) {
      CAPTURE(depth);
      sluice::file into = adopted(w, "file", O_RDWR | O_CREAT | O_TRUNC);
      const observed seen = w.run(write_blocks(w.engine(), into, depth, 12));
      CHECK(seen.drained);
      CHECK(seen.ops == 12);
      CHECK(seen.bytes == 12 * block);
      CHECK(seen.leases_max <= depth);
      CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
      CHECK(content_of(w.at("file")).size() == 12 * block);
    }
  }
}

TEST_CASE("the first failure of a window stays, and its blocks go back") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), {});
    sluice::file into = adopted(w, "file", O_RDONLY);
    const observed seen = w.run(write_blocks(w.engine(), into, 3, 12));
    CHECK(!seen.drained);
    CHECK(seen.failure == EBADF);
    CHECK(seen.bytes == 0);
    CHECK(w.counter("sluice.memory.leases_in_use") == 0);
  }
}

TEST_CASE(
    "with a check every block is looked at in order, one write each, no more than the depth") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::size_t depth : {1, 2, 7}) {
      CAPTURE(depth);
      sluice::file into = adopted(w, "file", O_RDWR | O_CREAT | O_TRUNC);
      support::recording_check check;
      const observed seen = w.run(write_blocks(w.engine(), into, depth, 12, &check));
      CHECK(seen.drained);
      CHECK(seen.ops == 12);
      CHECK(seen.leases_max <= depth);
      CHECK(check.sound());
      CHECK(check.finished() == 1);
      CHECK(check.seen().size() == 12 * block);
      CHECK(support::is_pattern(check.seen(), 1, 0));
      CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
    }
  }
}

TEST_CASE("padding is written and shown to no check") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = adopted(w, "file", O_RDWR | O_CREAT);
    support::recording_check check;
    const observed seen = w.run(write_padded(w.engine(), into, &check));
    CHECK(seen.drained);
    CHECK(seen.bytes == block);
    CHECK(content_of(w.at("file")).size() == block);
    CHECK(check.seen().size() == block / 2);
    CHECK(check.finished() == 1);
  }
}

TEST_CASE("a body without bytes is judged too, and nothing is written for it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = adopted(w, "file", O_RDWR | O_CREAT);
    support::recording_check passes;
    support::recording_check refuses({.refuses_end = true});
    CHECK(w.run(end_at_once(w.engine(), into, nullptr)).drained);
    CHECK(w.run(end_at_once(w.engine(), into, &passes)).drained);
    CHECK(passes.finished() == 1);
    const observed seen = w.run(end_at_once(w.engine(), into, &refuses));
    CHECK(seen.failure == sluice::code::refused_by_check);
    CHECK(seen.ops == 0);
  }
}

TEST_CASE("after a refusal nothing more is looked at or written, and every block goes back") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::size_t refused : {0, 5, 11}) {
      CAPTURE(refused);
      sluice::file into = adopted(w, "file", O_RDWR | O_CREAT | O_TRUNC);
      support::recording_check check({.refused_byte = refused * block + 7});
      const observed seen = w.run(write_blocks(w.engine(), into, 4, 12, &check));
      CHECK(seen.failure == sluice::code::refused_by_check);
      CHECK(seen.bytes == refused * block);
      CHECK(seen.ops == refused);
      CHECK(check.sound());
      CHECK(check.finished() == 0);
      CHECK(content_of(w.at("file")).size() == refused * block);
      CHECK(w.counter("sluice.memory.leases_in_use") == 0);
    }
  }
}

TEST_CASE("after a write that failed nothing more is looked at") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), {});
    sluice::file into = adopted(w, "file", O_RDONLY);
    support::recording_check check;
    const observed seen = w.run(write_blocks(w.engine(), into, 3, 64, &check));
    CHECK(seen.failure == EBADF);
    CHECK(check.seen().size() < 64 * block);
    CHECK(check.finished() == 0);
  }
}

TEST_CASE("a cancelled window is drained all the same before its blocks go back") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}});
    sluice::file into = adopted(w, "file", O_RDWR | O_CREAT);
    for (int turns = 0; turns < 24; ++turns) {
      int told = 0;
      const sluice::task_handle handle =
          w.engine().start(write_blocks(w.engine(), into, 4, 64), [&told](observed) { ++told; });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
    }
    // What was written is the pattern, at its place.
    const std::vector<std::byte> content = content_of(w.at("file"));
    for (std::size_t at = 0; at < content.size(); at += block) {
      const auto part = std::span(content).subspan(at, std::min(block, content.size() - at));
      const bool hole = std::ranges::all_of(part, [](std::byte b) { return b == std::byte{0}; });
      CHECK((hole || support::is_pattern(part, 1, at)));
    }
  }
}

TEST_CASE("a window that ends before its writes aborts, whatever the build") {
  const setting on{"pool", "pool", std::filesystem::current_path().string(), false, ""};
  world w(on);
  const sluice::file into = adopted(w, "file", O_RDWR | O_CREAT);
  const std::string said = support::last_words([&] {
    sluice::write_window window(into.state(), 1, nullptr);
    window.write(w.engine().core().blocks().try_take(), 4096, {});
  });
  CHECK(said == "sluice: a window of writes ended before they had\n");
}
