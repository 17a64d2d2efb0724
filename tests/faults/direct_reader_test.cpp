// Ranges read around the page cache from a disk that gives less than it was asked for, fails, or
// hangs.
#include "sluice/direct_reader.hpp"

#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using namespace std::chrono_literals;
using sluice::direct_reader;
using support::request_kind;

constexpr std::uint64_t file_bytes = 3 * block_bytes + 777;
constexpr std::uint64_t first = 1000;  // of the range that is read: nothing of it is aligned
constexpr std::uint64_t range_bytes = 50'001;

struct observed {
  int failure = 0;
  std::vector<std::byte> bytes;
};

// An engine with a reader of a file of seeded bytes.
class reading_world : public conformance::world {
 public:
  reading_world(support::fault_fs& disk, const std::string& backend)
      : world(conformance::setting{backend, backend, disk.mount_point(), true, ""},
              {{"sluice.memory.block_bytes", "64K"}, {"sluice.memory.arena_bytes", "1M"}}) {
    conformance::make_file(at("file"), support::pattern(1, 0, file_bytes));
    sluice::result<sluice::file> of =
        sluice::file::adopt(engine(), ::open(at("file").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(of.has_value());
    const auto open = [](sluice::file& f) -> sluice::task<sluice::result<direct_reader>> {
      co_return co_await direct_reader::open(f);
    };
    sluice::result<direct_reader> made = run(open(*of));
    REQUIRE_MESSAGE(made.has_value(), sluice::describe(made.error()));
    reader_.emplace(std::move(*made));
  }

  [[nodiscard]] sluice::task<observed> read(std::uint64_t offset, std::uint64_t bytes) {
    observed seen;
    sluice::lease_await leasing = engine().acquire_block();
    const sluice::result<sluice::lease> leased = co_await leasing;
    if (!leased) {
      seen.failure = leased.error().code;
      co_return seen;
    }
    const sluice::result<std::span<std::byte>> got = co_await reader_->read(*leased, offset, bytes);
    if (got) {
      seen.bytes.assign(got->begin(), got->end());
    } else {
      seen.failure = got.error().code;
    }
    co_return seen;
  }
  void check_whole(std::uint64_t offset, std::uint64_t bytes) {
    CAPTURE(offset);
    CAPTURE(bytes);
    const observed seen = run(read(offset, bytes));
    CHECK_MESSAGE(seen.failure == 0, sluice::code_name(seen.failure));
    CHECK(seen.bytes.size() == std::min(bytes, file_bytes - std::min(offset, file_bytes)));
    CHECK(support::is_pattern(seen.bytes, 1, offset));
    settle();
  }

 private:
  std::optional<direct_reader> reader_;
};

// Without page cache, because with one the kernel itself reads on.
template <class Body>
void in_every_backend(Body body) {
  for (const bool waits : {false, true}) {
    on_fault_fs({.direct_io = true, .wait_for_direct = waits}, [&](support::fault_fs& disk) {
      CAPTURE(waits);
      for (const std::string& backend : support::backends()) {
        CAPTURE(backend);
        reading_world w(disk, backend);
        disk.orders().reset();
        body(disk, w);
      }
    });
  }
}

}  // namespace

TEST_CASE("a read that is cut short inside the file goes on, whatever the size of the pieces") {
  in_every_backend([](support::fault_fs& disk, reading_world& w) {
    std::uint64_t cut = 0;
    for (const std::uint32_t short_bytes :
         {1U, 511U, 512U, 4095U, 4096U, 4097U, 12'288U, 20'000U, 53'247U}) {
      for (const std::uint64_t every : {1U, 2U, 3U}) {
        CAPTURE(short_bytes);
        CAPTURE(every);
        if (every == 1 && short_bytes < 4096) continue;  // never a whole unit: told, see below
        disk.orders().reset();
        disk.orders().short_read_bytes = short_bytes;
        disk.orders().short_reads_every = every;
        w.check_whole(first, range_bytes);
        w.check_whole(file_bytes - 20'000, 40'000);
        w.check_whole(file_bytes - 10, 10);
        w.check_whole(file_bytes, 10);
        if (every == 1) CHECK(disk.orders().shortened_reads.load() > 0);
        cut += disk.orders().shortened_reads.load();
      }
    }
    CHECK(cut > 40);
  });
}

TEST_CASE("a disk that gives nothing inside the file, or never a whole sector, is an error") {
  in_every_backend([](support::fault_fs& disk, reading_world& w) {
    for (const std::uint32_t short_bytes : {0U, 1U, 511U}) {
      CAPTURE(short_bytes);
      disk.orders().reset();
      disk.orders().short_read_bytes = short_bytes;
      disk.orders().short_reads_every = 1;
      CHECK(w.run(w.read(first, range_bytes)).failure == EIO);
      w.settle();
      CHECK(disk.orders().of(request_kind::read).seen.load() < 10);
      disk.orders().reset();
      w.check_whole(first, range_bytes);
    }
  });
}

TEST_CASE("whichever read fails, its error is told, no block is lost, and the next read is whole") {
  in_every_backend([](support::fault_fs& disk, reading_world& w) {
    for (const int error : {EIO, ESTALE}) {
      // In pieces, so that there are reads in the middle.
      for (std::uint64_t k = 1; k <= 5; ++k) {
        CAPTURE(error);
        CAPTURE(k);
        disk.orders().reset();
        disk.orders().short_read_bytes = 12'288;
        disk.orders().short_reads_every = 1;
        disk.orders().fail(request_kind::read, k, error);
        const observed seen = w.run(w.read(first, range_bytes));
        CHECK_MESSAGE(seen.failure == error, sluice::code_name(seen.failure));
        w.settle();
        w.check_whole(first, range_bytes);
      }
    }
  });
}

TEST_CASE("cancelled while the disk hangs, a read keeps its block until the kernel has done it") {
  in_every_backend([](support::fault_fs& disk, reading_world& w) {
    constexpr std::uint64_t reads = 3;
    for (std::uint64_t k = 1; k <= reads; ++k) {
      CAPTURE(k);
      disk.orders().reset();
      disk.orders().short_read_bytes = 20'480;
      disk.orders().short_reads_every = 1;
      disk.orders().of(request_kind::read).stop_at = k;
      std::vector<observed> told;
      const sluice::task_handle reading = w.engine().start(
          w.read(first, range_bytes), [&told](observed seen) { told.push_back(std::move(seen)); });
      w.until([&disk] { return disk.has_stopped(0ms); });
      w.engine().cancel(reading);
      for (int i = 0; i < 3; ++i) w.engine().run_once(1ms);
      CHECK(told.empty());
      CHECK(w.counter("sluice.memory.leases_in_use") == 1);
      disk.resume();
      w.until([&told] { return !told.empty(); });
      w.settle();
      REQUIRE(told.size() == 1);
      // The last of them has brought what was asked for, so that it was faster than the cancel.
      CHECK(told[0].failure == (k < reads ? ECANCELED : 0));
      CHECK(told[0].bytes.size() == (k < reads ? 0 : range_bytes));
      CHECK(support::is_pattern(told[0].bytes, 1, first));
      CHECK(disk.orders().of(request_kind::read).seen.load() == k);
      disk.orders().reset();
      w.check_whole(first, range_bytes);
    }
  });
}

TEST_CASE("cancelled after any of its operations, a read in pieces ends once, and cleanly") {
  in_every_backend([](support::fault_fs& disk, reading_world& w) {
    std::uint64_t cancelled = 0;
    bool whole = false;
    for (std::uint64_t k = 0; !whole && k < 30; ++k) {
      CAPTURE(k);
      disk.orders().reset();
      disk.orders().short_read_bytes = 4097;
      disk.orders().short_reads_every = 1;
      std::vector<observed> told;
      const std::uint64_t before = w.counter("sluice.ops.completed");
      const sluice::task_handle reading = w.engine().start(
          w.read(first, range_bytes), [&told](observed seen) { told.push_back(std::move(seen)); });
      w.until([&] { return !told.empty() || w.counter("sluice.ops.completed") - before >= k; });
      w.engine().cancel(reading);
      w.engine().cancel(reading);
      w.until([&told] { return !told.empty(); });
      w.settle();
      REQUIRE(told.size() == 1);
      whole = told[0].failure == 0;
      cancelled += whole ? 0 : 1;
      if (whole) CHECK(told[0].bytes.size() == range_bytes);
      CHECK(support::is_pattern(told[0].bytes, 1, first));
      CHECK((whole || told[0].failure == ECANCELED));
    }
    CHECK(whole);
    CHECK(cancelled > 5);
  });
}
