#include "sluice/block_writer.hpp"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <numeric>

#include "conformance/suite.hpp"
#include "storage/file_state.hpp"

namespace {

using namespace conformance;
using sluice::block_writer;
using sluice::block_writer_options;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t payload = 16 * kib;
const std::array<char, 1> foreign_byte{};  // of no block

sluice::file opened(world& w, const char* name, int flags = O_RDWR | O_CREAT) {
  const int fd = ::open(w.at(name).c_str(), flags | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

sluice::task<sluice::result<block_writer>> open_writer(sluice::file& into,
                                                       block_writer_options options) {
  co_return co_await block_writer::open(into, options);
}

block_writer writer_of(world& w, sluice::file& into, block_writer_options options = {}) {
  sluice::result<block_writer> made = w.run(open_writer(into, options));
  REQUIRE_MESSAGE(made.has_value(), sluice::describe(made.error()));
  return std::move(*made);
}

int code_of(const sluice::result<void>& r) { return r ? 0 : r.error().code; }

sluice::task<int> flush(block_writer& w, std::uint64_t offset = 0,
                        std::uint64_t length = sluice::op_no_offset) {
  const sluice::result<void> done = co_await w.flush(offset, length);
  co_return code_of(done);
}

sluice::task<int> commit(block_writer& w, std::uint64_t offset = 0,
                         std::uint64_t length = sluice::op_no_offset) {
  const sluice::result<void> done = co_await w.commit(offset, length);
  co_return code_of(done);
}

// Posts a block of its own without waiting: who uses it has blocks enough.
int post(world& w, block_writer& to, std::span<const std::byte> bytes, std::uint64_t offset) {
  sluice::lease block = w.engine().core().blocks().try_take();
  REQUIRE(block);
  std::ranges::copy(bytes, block.data());
  const auto own = std::as_bytes(block.bytes()).first(bytes.size());
  return code_of(to.post(std::move(block), own, offset));
}

int post_pattern(world& w, block_writer& to, std::uint64_t offset, std::size_t bytes) {
  return post(w, to, support::pattern(1, offset, bytes), offset);
}

// Cuts payloads from blocks of the pool, as a framed receive does.
class block_source {
 public:
  explicit block_source(sluice::engine& e) : engine_(e) {}
  // Whether there is room for so many bytes at a multiple of `unit`.
  [[nodiscard]] bool has(std::uint64_t bytes, std::uint64_t unit) const {
    return block_ && (used_ + unit - 1) / unit * unit + bytes <= block_.size();
  }
  sluice::task<int> refill() {
    block_.reset();
    used_ = 0;
    sluice::lease_await leasing = engine_.acquire_block();
    sluice::result<sluice::lease> leased = co_await leasing;
    if (!leased) co_return leased.error().code;
    block_ = std::move(*leased);
    co_return 0;
  }
  sluice::lease cut(std::uint64_t bytes, std::uint64_t unit) {
    used_ = (used_ + unit - 1) / unit * unit;
    const auto at = static_cast<std::uint32_t>(used_);
    used_ += bytes;
    return block_.part(at, static_cast<std::uint32_t>(bytes));
  }

 private:
  sluice::engine& engine_;
  sluice::lease block_;
  std::uint64_t used_ = 0;
};

struct range {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t unit = 1;  // of its place in memory
};

// A flow of random posts, reads, flushes and commits, checked against a plain array.
struct churn {
  sluice::engine& engine;
  block_writer& writer;
  std::vector<std::byte>& model;  // what the file is to hold, all flows together
  std::uint64_t region = 0;       // of the file
  std::uint64_t seed = 0;
  int steps = 0;
  // With several, each has every flows-th payload of the file for itself.
  std::uint64_t flow = 0;
  std::uint64_t flows = 1;
};

range random_range(const churn& c, support::seeded_random& random) {
  if (c.flows > 1) {
    const std::uint64_t cell = random.below(c.region / payload / c.flows) * c.flows + c.flow;
    const bool whole = !random.one_in(4);
    const std::uint64_t from = whole ? 0 : random.below(payload);
    return {cell * payload + from, whole ? payload : 1 + random.below(payload - from),
            whole ? 4 * kib : std::uint64_t{1}};
  }
  switch (random.below(4)) {
    case 0: return {random.below(c.region / payload) * payload, payload, 4 * kib};
    case 1: {
      const std::uint64_t pages = 1 + random.below(16);
      return {random.below(c.region / (4 * kib) - pages) * 4 * kib, pages * 4 * kib, 4 * kib};
    }
    case 2: {
      const std::uint64_t bytes = 1 + random.below(20'000);
      return {random.below(c.region - bytes), bytes, 1};
    }
    default: {
      const std::uint64_t bytes = 1 + random.below(600);
      return {random.below(c.region - bytes), bytes, 1};
    }
  }
}

sluice::task<int> post_some(const churn& c, block_source& blocks, range r, std::uint64_t seed) {
  if (!blocks.has(r.bytes, r.unit)) {
    const int failed = co_await blocks.refill();
    if (failed != 0) co_return failed;
  }
  while (!c.writer.has_room()) {
    const sluice::result<void> roomy = co_await c.writer.room();
    if (!roomy) co_return roomy.error().code;
  }
  sluice::lease block = blocks.cut(r.bytes, r.unit);
  support::fill_pattern(block.bytes(), seed, r.offset);
  if (c.model.size() < r.offset + r.bytes) c.model.resize(r.offset + r.bytes);
  std::ranges::copy(block.bytes(), c.model.data() + r.offset);
  const auto bytes = std::as_bytes(block.bytes());
  co_return code_of(c.writer.post(std::move(block), bytes, r.offset));
}

// What the model has there, up to its end.
std::span<const std::byte> expected(const churn& c, const range& r) {
  if (r.offset >= c.model.size()) return {};
  const std::uint64_t bytes = std::min<std::uint64_t>(r.bytes, c.model.size() - r.offset);
  return std::span(c.model).subspan(r.offset, bytes);
}

sluice::task<int> read_and_compare(const churn& c, range r) {
  std::vector<std::byte> seen(r.bytes);
  const sluice::result<std::size_t> got = co_await c.writer.read(seen, r.offset);
  if (!got) co_return got.error().code;
  co_return same_bytes(std::span(seen).first(*got), expected(c, r)) ? 0 : EBADMSG;
}

int try_read_and_compare(const churn& c, const range& r) {
  std::vector<std::byte> seen(r.bytes);
  if (!c.writer.try_read(seen, r.offset)) return 0;
  return same_bytes(seen, expected(c, r)) ? 0 : EBADMSG;
}

// 0, or why it ended; `at_step` says where.
sluice::task<int> run_churn(churn c, int& at_step) {
  support::seeded_random random(c.seed);
  block_source blocks(c.engine);
  int failed = 0;
  for (at_step = 0; at_step < c.steps && failed == 0; ++at_step) {
    const range r = random_range(c, random);
    const std::uint64_t what = random.below(100);
    if (what < 70) {
      failed = co_await post_some(c, blocks, r, random.next());
    } else if (what < 82) {
      failed = co_await read_and_compare(c, r);
    } else if (what < 92) {
      failed = try_read_and_compare(c, r);
    } else if (what < 97) {
      failed = co_await flush(c.writer, r.offset, r.bytes);
    } else if (what < 98) {
      failed = co_await commit(c.writer, r.offset, r.bytes);
    } else {
      sluice::op_await resting = c.engine.sleep_for(200us);
      co_await resting;
    }
  }
  co_return failed;
}

void churn_alone(const setting& on, std::uint64_t seed, sluice::block_access access, int steps) {
  CAPTURE(seed);
  world w(on);
  sluice::file into = opened(w, "file");
  block_writer writer = writer_of(
      w, into, {.merge_bytes = 64 * kib, .batch_bytes = mib, .delay = 2ms, .access = access});
  std::vector<std::byte> model;
  int at_step = 0;
  const churn c{w.engine(), writer, model, 2 * mib, seed, steps};
  CHECK(w.run(run_churn(c, at_step)) == 0);
  CAPTURE(at_step);
  CHECK(w.run(flush(writer)) == 0);
  CHECK(w.counter("sluice.memory.leases_in_use") == 0);
  CHECK(same_bytes(content_of(w.at("file")), model));
  CHECK(writer.stats().replaced_bytes > 0);
  CHECK(w.counter("sluice.write.read_bytes") > 0);
  const bool goes_direct = on.direct && access == sluice::block_access::automatic;
  CHECK((writer.stats().direct_bytes > 0) == goes_direct);
}

// Posts 16 KiB payloads of the pattern so that those of a window come in random order.
sluice::task<int> post_out_of_order(sluice::engine& e, block_writer& to, std::uint64_t bytes,
                                    std::uint64_t window) {
  support::seeded_random random(7);
  block_source blocks(e);
  std::vector<std::byte> unused;
  const churn c{e, to, unused, bytes, 1, 0};
  std::vector<std::uint64_t> order(window / payload);
  for (std::uint64_t begin = 0; begin < bytes; begin += window) {
    std::iota(order.begin(), order.end(), begin / payload);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    for (const std::uint64_t index : order) {
      const int failed = co_await post_some(c, blocks, {index * payload, payload, 4 * kib}, 1);
      if (failed != 0) co_return failed;
    }
  }
  co_return co_await flush(to);
}

// Writes beyond it are EFBIG, in this process and as long as it lives.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit now{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  file_size_limit(const file_size_limit&) = delete;
  file_size_limit& operator=(const file_size_limit&) = delete;
  ~file_size_limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  sighandler_t handler_;
  rlimit before_{};
};

sluice::task<int> reserve(sluice::file& f, std::uint64_t bytes) {
  const sluice::result<void> done = co_await f.reserve(bytes);
  co_return code_of(done);
}

}  // namespace

TEST_CASE("random posts, reads, flushes and commits agree with a plain array") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::uint64_t seed : {1U, 2U}) {
      churn_alone(on, seed, sluice::block_access::automatic, 800);
    }
    churn_alone(on, 3, sluice::block_access::page_cache, 800);
  }
}

TEST_CASE("the fallbacks of the engine change nothing but how it is done") {
  for (const setting& on : every_fallback()) {
    CAPTURE(on.name);
    churn_alone(on, 4, sluice::block_access::automatic, 300);
  }
}

TEST_CASE("vectors of one registered buffer are written alike where the kernel lacks the call") {
  if (!support::has_backend("ring")) return;
  const std::string here = std::filesystem::current_path().string();
  for (const char* hidden : {"", "ring.op.writev_fixed"}) {
    const setting on{hidden, "ring", here, takes_direct(here), hidden};
    CAPTURE(on.name);
    // One slice of the arena, so that all blocks lie in one registered buffer.
    world w(on, {{"sluice.memory.arena_bytes", "2M"}, {"sluice.memory.block_bytes", "16K"}});
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.merge_bytes = 128 * kib, .delay = 10s});
    for (const std::uint64_t i : {5U, 3U, 1U, 7U, 0U, 2U, 4U, 6U})
      CHECK(post_pattern(w, writer, i * payload, payload) == 0);
    CHECK(w.run(flush(writer)) == 0);
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
    CHECK(writer.stats().ops == 1);
    CHECK(w.counter("sluice.write.vectors_fixed") == 1);
  }
}

TEST_CASE("flows that share every merged write each see their own bytes") {
  constexpr std::uint64_t region = 4 * mib;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = opened(w, "file");
    REQUIRE(::ftruncate(into.fd(), region) == 0);
    block_writer writer = writer_of(w, into, {.merge_bytes = 128 * kib, .delay = 1ms});
    std::vector<std::byte> model(region);
    std::array<int, 5> steps{};
    std::vector<int> ends;
    for (std::uint64_t flow = 0; flow < steps.size(); ++flow) {
      const churn c{w.engine(), writer, model, region, 100 + flow, 600, flow, steps.size()};
      w.engine().start(run_churn(c, steps[flow]), [&ends](int failed) { ends.push_back(failed); });
    }
    w.until([&ends, &steps] { return ends.size() == steps.size(); });
    CHECK(ends == std::vector<int>(steps.size(), 0));
    CHECK(w.run(flush(writer)) == 0);
    CHECK(same_bytes(content_of(w.at("file")), model));
  }
}

TEST_CASE("16 KiB blocks out of order become writes of 256 KiB and more in the mean") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "16M"}});
    sluice::file into = opened(w, "file");
    REQUIRE(w.run(reserve(into, 16 * mib)) == 0);
    block_writer writer = writer_of(w, into, {.delay = 10s});
    REQUIRE(w.run(post_out_of_order(w.engine(), writer, 16 * mib, 4 * mib)) == 0);
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
    const sluice::block_writer_stats seen = writer.stats();
    CHECK(seen.blocks == 16 * mib / payload);
    CHECK(seen.bytes == 16 * mib);
    CHECK(seen.bytes / seen.ops >= 256 * kib);
    CHECK(seen.direct_bytes == (on.direct ? seen.bytes : 0));
    CHECK(w.counter("sluice.write.blocks") == seen.blocks);
    CHECK(w.counter("sluice.write.bytes") == seen.bytes);
    CHECK(w.counter("sluice.write.ops") == seen.ops);
    CHECK(w.counter("sluice.write.direct_bytes") == seen.direct_bytes);
    CHECK(w.counter("sluice.write.full") > 0);
  }
}

TEST_CASE("blocks of an odd length all along the file are merged through the page cache") {
  constexpr std::size_t odd = 10'007;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    for (const std::uint64_t i : {4U, 1U, 3U, 0U, 2U})
      CHECK(post_pattern(w, writer, i * odd, odd) == 0);
    CHECK(w.run(flush(writer)) == 0);
    CHECK(writer.stats().ops == 1);
    CHECK(writer.stats().direct_bytes == 0);
    CHECK(content_of(w.at("file")).size() == 5 * odd);
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
  }
}

TEST_CASE("a peer reads a block before it has reached the disk, and the file around it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), support::pattern(1, 0, 10'000));
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    CHECK(post(w, writer, support::pattern(2, 4000, 1000), 4000) == 0);
    CHECK(post(w, writer, support::pattern(3, 20'000, 1000), 20'000) == 0);
    std::vector<std::byte> model = support::pattern(1, 0, 10'000);
    model.resize(21'000);
    support::fill_pattern(std::span(model).subspan(4000, 1000), 2, 4000);
    support::fill_pattern(std::span(model).subspan(20'000, 1000), 3, 20'000);
    const churn c{w.engine(), writer, model, 0, 0, 0};
    for (const range& r : {range{0, 30'000}, range{4500, 100}, range{4999, 2}, range{9'990, 20},
                           range{9'990, 10'020}, range{20'999, 10}, range{21'000, 10},
                           range{50'000, 10}, range{15'000, 5'000}}) {
      CAPTURE(r.offset);
      CHECK(w.run(read_and_compare(c, r)) == 0);
    }
    std::vector<std::byte> seen(1000);
    CHECK(writer.try_read(seen, 4000));
    CHECK(support::is_pattern(seen, 2, 4000));
    CHECK_FALSE(writer.try_read(seen, 3999));
    CHECK_FALSE(writer.try_read(seen, 4001));
    CHECK(writer.stats().ops == 0);
    CHECK(w.run(flush(writer)) == 0);
    CHECK_FALSE(writer.try_read(seen, 4000));
    CHECK(w.run(read_and_compare(c, {0, 30'000})) == 0);
    CHECK(same_bytes(content_of(w.at("file")), model));
  }
}

TEST_CASE("nobody need flush: a block is stored after the delay") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.write.delay_us", "1000"}});
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into);
    CHECK(post_pattern(w, writer, 0, 5000) == 0);
    w.until([&writer] { return writer.stats().ops == 1; });
    CHECK(content_of(w.at("file")).size() == 5000);
    CHECK(w.counter("sluice.write.aged") == 1);
  }
}

TEST_CASE("a commit stores the range and syncs once for all who wait") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    CHECK(post_pattern(w, writer, 0, 64 * kib) == 0);
    CHECK(post_pattern(w, writer, 4 * mib, 64 * kib) == 0);
    std::vector<int> codes;
    for (int i = 0; i < 20; ++i) {
      w.engine().start(commit(writer, 1000, 10), [&codes](int c) { codes.push_back(c); });
    }
    w.until([&codes] { return codes.size() == 20; });
    CHECK(codes == std::vector<int>(20, 0));
    CHECK(writer.stats().bytes == 64 * kib);  // the other block still waits
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
    CHECK(w.counter("sluice.commit.waiters") == 20);
    CHECK(w.counter("sluice.commit.syncs") == 1);  // one write ended, and all went on in that turn
    CHECK(w.run(commit(writer)) == 0);
    CHECK(w.counter("sluice.commit.syncs") == 2);
    CHECK(writer.stats().bytes == 128 * kib);
  }
}

TEST_CASE("thousands of blocks are posted by flows that wait for room") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.write.pieces_max", "64"}});
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    int left = 8;
    const auto post_strided = [](sluice::engine& e, block_writer& to,
                                 std::uint64_t flow) -> sluice::task<int> {
      block_source blocks(e);
      std::vector<std::byte> model;
      const churn c{e, to, model, 0, 0, 0};
      for (std::uint64_t i = 0; i < 250; ++i) {
        const range r{(i * 8 + flow) * 1000, 1000, 1};
        const int failed = co_await post_some(c, blocks, r, 1);
        if (failed != 0) co_return failed;
      }
      co_return 0;
    };
    for (std::uint64_t flow = 0; flow < 8; ++flow) {
      w.engine().start(post_strided(w.engine(), writer, flow), [&left](int c) { left -= c == 0; });
    }
    w.until([&left] { return left == 0; });
    CHECK(w.run(flush(writer)) == 0);
    CHECK(w.counter("sluice.write.room_waits") > 0);
    CHECK(content_of(w.at("file")).size() == 2'000'000);
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
  }
}

TEST_CASE("a cancelled flush leaves the writes to themselves") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    CHECK(post_pattern(w, writer, 0, 256 * kib) == 0);
    std::optional<int> told;
    const sluice::task_handle handle =
        w.engine().start(flush(writer), [&told](int c) { told = c; });
    w.engine().cancel(handle);
    w.until([&told] { return told.has_value(); });
    CHECK(*told == ECANCELED);
    w.until([&writer] { return writer.stats().ops == 1; });
    CHECK(support::is_pattern(content_of(w.at("file")), 1, 0));
  }
}

TEST_CASE("a writer that goes drops what was not begun, and its writes end in the background") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (int turns = 0; turns < 6; ++turns) {
      world w(on);
      {
        sluice::file into = opened(w, "file");
        sluice::file other = opened(w, "other");
        block_writer writer = writer_of(w, into, {.delay = 10s});
        for (std::uint64_t i = 0; i < 12; ++i) post_pattern(w, writer, i * 256 * kib, 256 * kib);
        post_pattern(w, writer, 64 * mib, 4 * kib);
        for (int i = 0; i < turns; ++i) w.engine().run_once(1ms);
        if (turns == 3) writer = writer_of(w, other);  // that of the first file goes
      }
      w.settle();
      const std::vector<std::byte> content = content_of(w.at("file"));
      CHECK(content.size() <= 12 * 256 * kib);
      for (std::size_t at = 0; at < content.size(); at += 512 * kib) {
        const auto part =
            std::span(content).subspan(at, std::min<std::size_t>(512 * kib, content.size() - at));
        const bool hole = std::ranges::all_of(part, [](std::byte b) { return b == std::byte{0}; });
        CHECK((hole || support::is_pattern(part, 1, at)));
      }
    }
  }
}

TEST_CASE("an engine that ends under a task with a writer ends both") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const auto hold = [](sluice::engine& e, sluice::file into) -> sluice::task<int> {
      sluice::result<block_writer> made = co_await block_writer::open(into);
      if (!made) co_return made.error().code;
      const int posted = co_await post_out_of_order(e, *made, 8 * mib, 4 * mib);
      if (posted != 0) co_return posted;
      sluice::op_await resting = e.sleep_for(1h);
      co_await resting;
      co_return 0;
    };
    w.engine().spawn(hold(w.engine(), opened(w, "file")));
    for (int i = 0; i < 4; ++i) w.engine().run_once(1ms);
    w.end_engine();
    w.count_again();
  }
}

TEST_CASE("a failed write is told to everybody from then on, and nothing hangs") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    sluice::file into = opened(w, "file");
    block_writer writer = writer_of(w, into, {.delay = 10s});
    CHECK(post_pattern(w, writer, 0, 4 * kib) == 0);
    const file_size_limit limit(mib);
    CHECK(post_pattern(w, writer, 2 * mib, 1000) == 0);
    const int failure = w.run(flush(writer, 2 * mib, 1));
    CHECK(failure == EFBIG);
    CHECK(w.run(flush(writer)) == failure);
    CHECK(w.run(commit(writer)) == failure);
    CHECK(post_pattern(w, writer, 0, 10) == failure);
    CHECK(writer.has_room());
    std::vector<std::byte> model;
    const churn c{w.engine(), writer, model, 0, 0, 0};
    CHECK(w.run(read_and_compare(c, {0, 10})) == failure);
    CHECK(w.counter("sluice.write.failures") == 1);
    CHECK(w.counter("sluice.commit.syncs") == 0);
    CHECK(w.counter("sluice.memory.leases_in_use") == 0);
  }
}

TEST_CASE("what cannot be is refused, and leaves the block with the caller") {
  const setting on{"pool", "pool", std::filesystem::current_path().string(), false, ""};
  world w(on);
  sluice::file into = opened(w, "file");
  for (const block_writer_options& bad :
       {block_writer_options{.merge_bytes = 5000}, block_writer_options{.merge_bytes = 2048},
        block_writer_options{.merge_bytes = mib}, block_writer_options{.delay = 61s}}) {
    const sluice::result<block_writer> made = w.run(open_writer(into, bad));
    REQUIRE(!made.has_value());
    CHECK(made.error().code == EINVAL);
  }
  sluice::file readable = opened(w, "file", O_RDONLY);
  const sluice::result<block_writer> unwritable = w.run(open_writer(readable, {}));
  REQUIRE(!unwritable.has_value());
  CHECK(unwritable.error().code == EBADF);
  {
    const sluice::transfer_claim alone(into.state(), sluice::transfer_claim::hold::alone);
    const sluice::result<block_writer> busy = w.run(open_writer(into, {}));
    REQUIRE(!busy.has_value());
    CHECK(busy.error().code == EBUSY);
  }
  block_writer writer = writer_of(w, into);
  const sluice::transfer_claim second(into.state(), sluice::transfer_claim::hold::alone);
  CHECK_FALSE(second);
  const sluice::result<block_writer> another = w.run(open_writer(into, {}));
  REQUIRE(!another.has_value());
  CHECK(another.error().code == EBUSY);
  sluice::lease block = w.engine().core().blocks().try_take();
  const auto all = std::as_bytes(block.bytes());
  CHECK(code_of(writer.post(std::move(block), std::as_bytes(std::span(foreign_byte)), 0)) ==
        EINVAL);
  CHECK(code_of(writer.post(std::move(block), all, ~std::uint64_t{0} / 2 - 5)) == EINVAL);
  CHECK(code_of(writer.post(std::move(block), all, ~std::uint64_t{0})) == EINVAL);
  CHECK(code_of(writer.post({}, {}, 0)) == EINVAL);
  CHECK(block);
  CHECK(code_of(writer.post(std::move(block), all.first(0), 0)) == 0);
  CHECK(w.run(flush(writer)) == 0);
  CHECK(writer.stats().ops == 0);
}
