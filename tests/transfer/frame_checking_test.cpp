// Blocks of a framed receive are verified before they are written: each goes to a worker for its
// digest while others come and are checked, and to the block_writer only when it has passed. No
// more is needed for it than frame_receiver, engine::run_on_worker and block_writer.
#include <doctest/doctest.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <sluice/openssl_check.hpp>
#include <sluice/xxhash_check.hpp>
#include <thread>
#include <utility>

#include "sluice/block_writer.hpp"
#include "sluice/file.hpp"
#include "sluice/frames.hpp"
#include "support/engine_fixture.hpp"
#include "support/framed_stream.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;

constexpr std::uint64_t payload_bytes = 16 << 10;
constexpr std::uint64_t payloads = 192;

// Makes the check of the block with that number.
using make_check = std::function<std::unique_ptr<body_check>(std::size_t number)>;

// What one call of a worker does.
struct block_check {
  body_check& by;
  std::span<const std::byte> bytes;
  result<void> verdict = fail(EINPROGRESS, "block_check");

  static std::int64_t carry_out(void* context) {
    auto& job = *static_cast<block_check*>(context);
    job.verdict = job.by.update(job.bytes);
    if (job.verdict) job.verdict = job.by.finish();
    return 0;
  }
};

struct tally {
  std::size_t stored = 0;
  std::vector<std::size_t> refused;
  std::vector<int> failures;
  std::size_t under_way = 0;
  std::size_t most_under_way = 0;
};

// A task for each block. The frame, and with it the share of its memory, goes with the task: what
// is not posted is given back at its end.
task<void> check_and_post(engine& e, block_writer& to, frame got, std::size_t number,
                          std::unique_ptr<body_check> check, tally& t) {
  t.most_under_way = std::max(t.most_under_way, ++t.under_way);
  block_check job{*check, got.payload};
  op_await checking = e.run_on_worker(block_check::carry_out, &job);
  const result<std::size_t> ran = co_await checking;
  result<void> done = ran ? job.verdict : std::unexpected(ran.error());
  while (done && !to.has_room()) done = co_await to.room();
  if (done) done = to.post(std::move(got.block), got.payload, number * payload_bytes);
  --t.under_way;
  if (done) {
    ++t.stored;
  } else if (done.error().code == code::refused_by_check) {
    t.refused.push_back(number);
  } else {
    t.failures.push_back(done.error().code);
  }
}

task<int> receive_all(engine& e, stream from, block_writer& to, const make_check& make, tally& t) {
  frame_receiver frames(e, from, support::framed::protocol());
  for (std::size_t i = 0; i < payloads; ++i) {
    result<frame> got = co_await frames.next();
    if (!got) co_return got.error().code;
    if (!*got) co_return ENODATA;
    e.spawn(check_and_post(e, to, std::move(*got), i, make(i), t));
  }
  co_return 0;
}

task<result<block_writer>> open_writer(file& into) { co_return co_await block_writer::open(into); }

task<int> flush(block_writer& w) {
  const result<void> done = co_await w.flush();
  co_return done ? 0 : done.error().code;
}

// One upload of blocks, to a file full of `old`.
class upload {
 public:
  static constexpr char old = 'o';

  explicit upload(const std::string& backend)
      : fixture_(backend, {{"sluice.memory.block_bytes", "256K"},
                           {"sluice.memory.arena_bytes", "16M"},
                           {"sluice.write.delay_us", "5000000"}}) {
    for (std::uint64_t i = 0; i < payloads; ++i) sent_.piece(payload_bytes);
    const std::string before(payloads * payload_bytes, old);
    const int fd = dir_.open("f");
    REQUIRE(::pwrite(fd, before.data(), before.size(), 0) == static_cast<ssize_t>(before.size()));
    into_ = *file::adopt(*fixture_, fd);
    writer_.emplace(*fixture_.run(open_writer(into_)));
  }
  ~upload() {
    writer_.reset();
    into_ = {};
    fixture_->run();
  }
  upload(const upload&) = delete;
  upload& operator=(const upload&) = delete;

  [[nodiscard]] std::span<const std::byte> payload(std::size_t number) const {
    return sent_.frames()[number].payload;
  }
  // Until every task has ended.
  int run(const make_check& make, tally& t) {
    std::jthread peer = send();
    return fixture_.run(receive_all(*fixture_, adopted(), *writer_, make, t));
  }
  support::engine_fixture& fixture() { return fixture_; }
  block_writer& writer() { return *writer_; }
  std::jthread send() {
    return std::jthread([fd = pair_.take_theirs(), this] {
      support::send_all(fd, sent_.bytes());
      ::close(fd);
    });
  }
  stream adopted() { return *stream::adopt(*fixture_, pair_.take_ours()); }
  // Which payloads are in the file, which parts of it are as before; the rest is neither.
  void look(std::vector<std::size_t>& there, std::vector<std::size_t>& untouched) const {
    const std::string seen = dir_.read("f");
    REQUIRE(seen.size() == payloads * payload_bytes);
    const std::string before(payload_bytes, old);
    for (std::size_t i = 0; i < payloads; ++i) {
      const auto part = std::as_bytes(std::span(seen)).subspan(i * payload_bytes, payload_bytes);
      if (support::same_bytes(part, payload(i))) there.push_back(i);
      if (support::same_bytes(part, std::as_bytes(std::span(before)))) untouched.push_back(i);
    }
  }

 private:
  support::temp_dir dir_;
  support::framed_stream sent_{22};
  support::engine_fixture fixture_;
  support::stream_pair pair_ = support::stream_pair::tcp();
  file into_;
  std::optional<block_writer> writer_;
};

std::vector<std::byte> digest_of(const EVP_MD* algorithm, std::span<const std::byte> bytes) {
  openssl_check check(algorithm);
  REQUIRE(check.update(bytes).has_value());
  REQUIRE(check.finish().has_value());
  return {check.digest().begin(), check.digest().end()};
}

// By SHA-1, SHA-256 and XXH3 in turn; every seventh block is expected to be another.
std::unique_ptr<body_check> ready_check(const upload& u, std::size_t number) {
  const auto expected = u.payload(number % 7 == 3 ? number - 1 : number);
  if (number % 3 == 2)
    return std::make_unique<xxhash_check>(XXH3_64bits(expected.data(), expected.size()));
  const EVP_MD* const algorithm = number % 3 == 0 ? EVP_sha1() : EVP_sha256();
  return std::make_unique<openssl_check>(algorithm, digest_of(algorithm, expected));
}

// Passes once as many are being asked at the same time as should be.
class together : public body_check {
 public:
  struct place {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t here = 0;
    std::size_t wanted = 0;
  };
  explicit together(place& at) : at_(at) {}
  result<void> update(std::span<const std::byte>) noexcept override {
    std::unique_lock hold(at_.mutex);
    ++at_.here;
    at_.changed.notify_all();
    const bool all = at_.changed.wait_for(hold, 20s, [this] { return at_.here >= at_.wanted; });
    return all ? result<void>() : fail(code::refused_by_check, "alone");
  }
  result<void> finish() noexcept override { return {}; }

 private:
  place& at_;
};

}  // namespace

TEST_CASE("blocks whose digest is right are stored, refused ones never reach the file") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    upload u(backend);
    tally t;
    CHECK(u.run([&u](std::size_t i) { return ready_check(u, i); }, t) == 0);
    CHECK(u.fixture().run(flush(u.writer())) == 0);
    CHECK(t.failures.empty());
    std::vector<std::size_t> wrong;
    std::vector<std::size_t> right;
    for (std::size_t i = 0; i < payloads; ++i) (i % 7 == 3 ? wrong : right).push_back(i);
    std::ranges::sort(t.refused);
    CHECK(t.refused == wrong);
    CHECK(t.stored == right.size());
    CHECK(u.writer().stats().blocks == right.size());
    CHECK(u.writer().stats().bytes == right.size() * payload_bytes);
    std::vector<std::size_t> there;
    std::vector<std::size_t> untouched;
    u.look(there, untouched);
    CHECK(there == right);
    CHECK(untouched == wrong);
  }
}

TEST_CASE("blocks are checked at the same time, on as many workers as there are") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    upload u(backend);
    together::place at;
    at.wanted = 4;  // sluice.pool.threads
    tally t;
    CHECK(u.run([&at](std::size_t) { return std::make_unique<together>(at); }, t) == 0);
    CHECK(t.stored == payloads);
    CHECK(t.refused.empty());
    CHECK(t.most_under_way >= at.wanted);
  }
}

TEST_CASE("blocks whose check is cancelled are given back and never written") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    upload u(backend);
    together::place at;
    at.wanted = 5;  // one more than there are workers: they all wait until the test lets them go
    tally t;
    const make_check make = [&at](std::size_t) { return std::make_unique<together>(at); };
    std::jthread peer = u.send();
    std::optional<int> ended;
    engine& e = *u.fixture();
    e.start(receive_all(e, u.adopted(), u.writer(), make, t), [&ended](int c) { ended = c; });
    const auto all_wait = [&] {
      const std::lock_guard hold(at.mutex);
      return at.here == 4 && t.under_way > 4;
    };
    while (!all_wait()) e.run_once(1ms);
    e.cancel_all();
    {
      const std::lock_guard hold(at.mutex);
      at.wanted = 0;
      at.changed.notify_all();
    }
    e.run();
    CHECK(t.under_way == 0);
    // Those that a worker had were faster than the cancel.
    CHECK(t.stored == 4);
    CHECK(!t.failures.empty());
    CHECK(t.failures == std::vector<int>(t.failures.size(), ECANCELED));
    CHECK(u.writer().stats().blocks == 4);
    CHECK(ended.has_value());
  }
}
