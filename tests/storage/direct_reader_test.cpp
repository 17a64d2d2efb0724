#include "sluice/direct_reader.hpp"

#include <fcntl.h>

#include <initializer_list>

#include "conformance/suite.hpp"
#include "support/cached_pages.hpp"

namespace {

using namespace conformance;
using sluice::direct_reader;

constexpr std::uint64_t block = 256 * 1024;

sluice::file opened(world& w, int flags = O_RDONLY) {
  const int fd = ::open(w.at("file").c_str(), flags | O_CLOEXEC);
  REQUIRE(fd >= 0);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

int code_of_opening(world& w, const sluice::file& of) {
  const auto made = w.run(direct_reader::open(of));
  return made ? 0 : made.error().code;
}

direct_reader reader_of(world& w, const sluice::file& of) {
  sluice::result<direct_reader> made = w.run(direct_reader::open(of));
  REQUIRE_MESSAGE(made.has_value(), sluice::describe(made.error()));
  return std::move(*made);
}

struct observed {
  std::vector<std::byte> bytes;
  int failure = 0;
};

// By a part of a block of its own that begins `at` and has `room` bytes.
sluice::task<observed> read(sluice::engine& e, direct_reader& from, std::uint64_t offset,
                            std::uint64_t bytes, std::uint32_t at = 0, std::uint32_t room = block) {
  observed seen;
  sluice::lease_await leasing = e.acquire_block();
  const sluice::result<sluice::lease> leased = co_await leasing;
  if (!leased) {
    seen.failure = leased.error().code;
    co_return seen;
  }
  const sluice::lease part = leased->part(at, room - at);
  const sluice::result<std::span<std::byte>> got = co_await from.read(part, offset, bytes);
  if (!got) {
    seen.failure = got.error().code;
  } else {
    seen.bytes.assign(got->begin(), got->end());
  }
  co_return seen;
}

}  // namespace

TEST_CASE("any range is read around the page cache, cut off at the end of the file") {
  for (const setting& on : every_setting_and_fallback()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on);
    constexpr std::uint64_t bytes = 3 * block + 777;
    make_file(w.at("file"), pattern(1, 0, bytes));
    sluice::file of = opened(w);
    direct_reader from = reader_of(w, of);
    const std::uint64_t unit = from.alignment_bytes();
    CHECK((unit > 0 && (unit & (unit - 1)) == 0));
    CHECK(from.room_bytes(0, 1) == unit);
    CHECK(from.room_bytes(unit - 1, 2) == 2 * unit);
    CHECK(from.room_bytes(5 * unit, 3 * unit) == 3 * unit);
    for (const auto& [offset, length] :
         std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{{0, block},
                                                                        {1, 1},
                                                                        {4095, 16 << 10},
                                                                        {70'001, 16 << 10},
                                                                        {511, 2},
                                                                        {bytes - 1, 1},
                                                                        {bytes - 1000, 5000},
                                                                        {bytes, 100},
                                                                        {bytes + 12'345, 10},
                                                                        {77, 0}}) {
      for (const std::uint32_t at : {0, 8192}) {
        if (at > 0 && length == block) continue;
        CAPTURE(offset);
        CAPTURE(length);
        const observed seen = w.run(read(w.engine(), from, offset, length, at));
        CHECK(seen.failure == 0);
        CHECK(seen.bytes.size() == std::min(length, bytes - std::min(offset, bytes)));
        CHECK(support::is_pattern(seen.bytes, 1, offset));
      }
    }
  }
}

TEST_CASE("it leaves nothing in the page cache, and outlives the file object") {
  for (const setting& on : every_setting()) {
    if (!on.direct || !support::can_drop_pages(on.folder)) continue;
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(1, 0, block));
    sluice::file of = opened(w);
    REQUIRE(::fsync(of.fd()) == 0);
    REQUIRE(::posix_fadvise(of.fd(), 0, 0, POSIX_FADV_DONTNEED) == 0);
    direct_reader from = reader_of(w, of);
    {
      const sluice::file gone = std::move(of);
    }
    const observed seen = w.run(read(w.engine(), from, 100, block / 2));
    CHECK(seen.failure == 0);
    CHECK(support::is_pattern(seen.bytes, 1, 100));
    const int fd = ::open(w.at("file").c_str(), O_RDONLY | O_CLOEXEC);
    CHECK(support::cached_bytes(fd, 0, block) == 0);
    ::close(fd);
  }
}

TEST_CASE("what was written through the page cache a moment ago is read") {
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(1, 0, block));
    sluice::file of = opened(w, O_RDWR);
    direct_reader from = reader_of(w, of);
    const auto fresh = pattern(2, 1000, 5000);
    REQUIRE(::pwrite(of.fd(), fresh.data(), fresh.size(), 1000) == 5000);
    const observed seen = w.run(read(w.engine(), from, 1000, 5000));
    CHECK(seen.failure == 0);
    CHECK(support::is_pattern(seen.bytes, 2, 1000));
  }
}

TEST_CASE("memory that is too small or not aligned, and ranges past 2^63, are refused") {
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(1, 0, block));
    sluice::file of = opened(w);
    direct_reader from = reader_of(w, of);
    CHECK(w.run(read(w.engine(), from, 1, block)).failure == EINVAL);
    CHECK(w.run(read(w.engine(), from, 0, 100, 0, 100)).failure == EINVAL);
    CHECK(w.run(read(w.engine(), from, 0, 100, 1)).failure == EINVAL);
    CHECK(w.run(read(w.engine(), from, ~0ULL - 5, 100)).failure == EINVAL);
    CHECK(w.run(read(w.engine(), from, 1ULL << 63, 100)).failure == EINVAL);
    CHECK(w.run(read(w.engine(), from, 100, ~0ULL)).failure == EINVAL);
  }
}

TEST_CASE("where it cannot be direct it says so, and a file for writing only is not read") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("file"), pattern(1, 0, block));
    const sluice::file of = opened(w);
    CHECK(code_of_opening(w, of) == (on.direct ? 0 : EOPNOTSUPP));
    const sluice::file writing = opened(w, O_WRONLY);
    CHECK(code_of_opening(w, writing) == EBADF);
  }
  for (const std::string& backend : support::backends()) {
    world w({backend, backend, std::filesystem::current_path().string(), true, "proc_self_fd"});
    make_file(w.at("file"), pattern(1, 0, block));
    const sluice::file of = opened(w);
    CHECK(code_of_opening(w, of) == EOPNOTSUPP);
  }
}
