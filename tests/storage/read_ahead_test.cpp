#include "storage/read_ahead.hpp"

#include "conformance/suite.hpp"
#include "core/this_scope.hpp"
#include "support/dies.hpp"

namespace {

using namespace conformance;

constexpr std::uint64_t block = 256 * 1024;

struct observed {
  std::vector<std::byte> read;
  int failure = 0;
  std::uint64_t leases_max = 0;
  std::uint64_t ops = 0;
};

sluice::task<observed> read_range(sluice::engine& e, sluice::file& from, sluice::read_range range,
                                  std::size_t depth) {
  observed seen;
  sluice::read_ahead blocks(from.state(), range, depth, co_await sluice::this_scope{});
  while (!blocks.finished() && seen.failure == 0) {
    if (blocks.needs_lease()) {
      sluice::lease_await leasing = e.acquire_block();
      sluice::result<sluice::lease> leased = co_await leasing;
      if (!leased) {
        seen.failure = leased.error().code;
        break;
      }
      blocks.begin(std::move(*leased));
    }
    blocks.begin_more();
    seen.leases_max = std::max(seen.leases_max, *e.counters().get("sluice.memory.leases_in_use"));
    while (!blocks.next_is_ready()) {
      if (!co_await blocks.next_ready()) break;
    }
    if (!blocks.next_is_ready()) {
      seen.failure = ECANCELED;
      break;
    }
    const std::span<const std::byte> bytes = blocks.pop();
    seen.failure = blocks.failure();
    blocks.begin_more();  // reads ahead while the caller still looks at its block
    seen.read.insert(seen.read.end(), bytes.begin(), bytes.end());
    blocks.give_back();
  }
  co_await blocks.drained();
  seen.ops = blocks.ops();
  co_return seen;
}

sluice::file adopted(world& w, int flags) {
  const int fd = ::open(w.at("file").c_str(), flags | O_CLOEXEC);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

}  // namespace

TEST_CASE("a range is read in order, whatever its edges, its depth and the free blocks") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}});
    constexpr std::uint64_t bytes = 9 * block + 777;
    make_file(w.at("file"), pattern(1, 0, bytes));
    for (const std::uint64_t unit : {1, 4096}) {
      if (unit > 1 && !on.direct) continue;
      sluice::file from = adopted(w, unit > 1 ? O_RDONLY | O_DIRECT : O_RDONLY);
      for (const std::size_t depth : {1, 2, 4, 32}) {
        for (const auto& [offset, length] :
             std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{{0, bytes},
                                                                            {1, bytes - 1},
                                                                            {4095, 3 * block},
                                                                            {block - 1, 2},
                                                                            {bytes - 1, 1},
                                                                            {4096, block},
                                                                            {0, 0}}) {
          CAPTURE(unit);
          CAPTURE(depth);
          CAPTURE(offset);
          CAPTURE(length);
          const observed seen = w.run(read_range(w.engine(), from, {offset, length, unit}, depth));
          CHECK(seen.failure == 0);
          CHECK(seen.read.size() == length);
          CHECK(support::is_pattern(seen.read, 1, offset));
          CHECK(seen.leases_max <= depth + 1);
          CHECK(w.counter("sluice.memory.leases_in_use") == 0);
        }
      }
    }
  }
}

TEST_CASE("a range that the file does not fill ends with end_of_stream") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    constexpr std::uint64_t bytes = 2 * block + 100;
    make_file(w.at("file"), pattern(1, 0, bytes));
    for (const std::uint64_t unit : {1, 4096}) {
      if (unit > 1 && !on.direct) continue;
      sluice::file from = adopted(w, unit > 1 ? O_RDONLY | O_DIRECT : O_RDONLY);
      for (const auto& [offset, length] :
           std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
               {0, bytes + 1}, {0, 5 * block}, {bytes, 1}, {100 * block, block}}) {
        CAPTURE(offset);
        CAPTURE(length);
        const observed seen = w.run(read_range(w.engine(), from, {offset, length, unit}, 3));
        CHECK(seen.failure == sluice::code::end_of_stream);
        CHECK(seen.read.size() < length);
        CHECK(support::is_pattern(seen.read, 1, offset));
      }
    }
  }
}

TEST_CASE("a cancelled read-ahead is drained before its blocks go back") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}});
    make_file(w.at("file"), pattern(1, 0, 12 * block));
    sluice::file from = adopted(w, O_RDONLY);
    for (int turns = 0; turns < 16; ++turns) {
      int told = 0;
      const sluice::task_handle handle = w.engine().start(
          read_range(w.engine(), from, {0, 12 * block, 1}, 4), [&told](observed) { ++told; });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      w.settle();
      CHECK(told == 1);
    }
  }
}

TEST_CASE("reading ahead that ends before its reads aborts, whatever the build") {
  const setting on{"pool", "pool", std::filesystem::current_path().string(), false, ""};
  world w(on);
  make_file(w.at("file"), pattern(1, 0, block));
  const sluice::file from = adopted(w, O_RDONLY);
  const std::string said = support::last_words([&] {
    sluice::read_ahead blocks(from.state(), {0, block, 1}, 1, nullptr);
    blocks.begin(w.engine().core().blocks().try_take());
  });
  CHECK(said == "sluice: reading ahead ended before its reads had\n");
}
