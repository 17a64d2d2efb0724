// A disk that takes less than it was given: files are byte-exact whatever the size of the pieces.
#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using conformance::uploaded;
using support::request_kind;

// Below, at and above a sector, a page and a block.
constexpr std::array<std::uint32_t, 9> sizes{1, 511, 512, 4095, 4096, 4097, 32'768, 65'535, 65'536};

std::vector<way> ways_of_short_writes(const std::vector<std::string>& paths = {"copy", "direct"}) {
  std::vector<way> all = every_way(paths);
  std::erase_if(all, [](const way& w) {
    const bool is_plain = w.preallocate == "off" && !w.shares;
    return w.path == "splice" && !is_plain;
  });
  return all;
}

void check_whole(disk_world& w, support::fault_fs& disk, std::uint32_t short_bytes,
                 std::uint64_t every) {
  disk.orders().reset();
  disk.orders().short_bytes = short_bytes;
  disk.orders().short_every = every;
  const uploaded u = w.upload(short_bytes);
  REQUIRE_MESSAGE(u.outcome.has_value(), sluice::describe(u.outcome.error()));
  REQUIRE(u.published.has_value());
  CHECK(w.body_is_whole(short_bytes));
  // A block is as long as the longest of the sizes: never longer. What is spliced comes in pages.
  const bool in_pages = u.outcome->path == sluice::path::splice;
  if (!in_pages || short_bytes <= 512)
    CHECK((disk.orders().shortened.load() > 0) == (short_bytes < block_bytes));
  w.clear();
}

// Of a block, at every border of a page, a byte before it and a byte behind; 1 and all but 1.
std::vector<std::uint32_t> sizes_around_pages() {
  std::vector<std::uint32_t> all{1, 511, 512, 513};
  for (std::uint32_t page = 4096; page <= block_bytes; page += 4096) {
    all.push_back(page - 1);
    if (page == block_bytes) break;
    all.push_back(page);
    all.push_back(page + 1);
  }
  return all;
}

sluice::task<int> receive(sluice::stream from, sluice::file& into) {
  sluice::receive_options options = conformance::of_length(upload_bytes);
  const auto done = co_await sluice::receive_to_file(from, into, options);
  co_return done ? 0 : done.error().code;
}

// Receives into a file that is there, so that nothing waits for a sync.
void check_received(disk_world& w, support::fault_fs& disk, std::span<const std::byte> sent) {
  const int fd = ::open(w.at("plain").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
  REQUIRE(into.has_value());
  conformance::stream_pair ends = conformance::stream_pair::tcp();
  conformance::peer sender(ends.take_theirs(), [sent](int to) { conformance::send_all(to, sent); });
  CHECK(w.run(receive(conformance::adopt(w.engine(), ends.take_ours()), *into)) == 0);
  CHECK(disk.orders().shortened.load() > 0);
  sender.join(w);
  CHECK(conformance::same_bytes(conformance::content_of(w.at("plain")), sent));
}

}  // namespace

TEST_CASE("a received file is whole if writes are cut anywhere around the borders of pages") {
  const std::vector<std::byte> sent = support::pattern(3, 0, upload_bytes);
  on_fault_fs({.direct_io = true, .wait_for_direct = true}, [&sent](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes()) {
      if (how.preallocate == "on" || how.shares) continue;
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint32_t short_bytes : sizes_around_pages()) {
        for (const std::uint64_t every : {1U, 2U}) {
          if (every == 1 && short_bytes < 4095) continue;  // thousands of requests
          CAPTURE(short_bytes);
          CAPTURE(every);
          disk.orders().reset();
          disk.orders().short_bytes = short_bytes;
          disk.orders().short_every = every;
          check_received(w, disk, sent);
        }
      }
    }
  });
}

TEST_CASE("files are byte-exact when every second write is cut to any size") {
  on_fault_fs({.wait_for_direct = true}, [](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes({"copy", "direct", "splice"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint32_t short_bytes : sizes) {
        CAPTURE(short_bytes);
        check_whole(w, disk, short_bytes, 2);
      }
    }
  });
}

TEST_CASE("files are byte-exact when every write is cut to a few sectors") {
  on_fault_fs({.wait_for_direct = true}, [](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes({"copy", "direct", "splice"})) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint32_t short_bytes : {512U, 4096U, 20'480U}) {
        CAPTURE(short_bytes);
        check_whole(w, disk, short_bytes, 1);
      }
    }
  });
}

TEST_CASE("without a page cache every short write reaches the engine, which goes on from there") {
  on_fault_fs({.direct_io = true, .wait_for_direct = true}, [](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes()) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint32_t short_bytes : sizes) {
        CAPTURE(short_bytes);
        const std::uint64_t before = w.counter("sluice.ops.resumed_short");
        check_whole(w, disk, short_bytes, 2);
        // Receives may be short beside them.
        CHECK(w.counter("sluice.ops.resumed_short") - before >= disk.orders().shortened.load());
      }
    }
  });
}

TEST_CASE("a direct write cut to whole sectors goes on aligned") {
  on_fault_fs({.direct_io = true, .wait_for_direct = true}, [](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes()) {
      if (how.path != "direct") continue;
      CAPTURE(name(how));
      disk_world w(disk, how);
      for (const std::uint32_t short_bytes : {4096U, 12'288U, 61'440U}) {
        CAPTURE(short_bytes);
        disk.orders().reset();
        disk.orders().direct_unit = 4096;
        disk.orders().short_bytes = short_bytes;
        disk.orders().short_every = 2;
        const uploaded u = w.upload(short_bytes);
        REQUIRE_MESSAGE(u.outcome.has_value(), sluice::describe(u.outcome.error()));
        CHECK(w.body_is_whole(short_bytes));
        CHECK(disk.orders().shortened.load() > 0);
        CHECK(disk.orders().direct_writes.load() > 8);
        CHECK(disk.orders().misaligned.load() == 0);
        w.clear();
      }
    }
  });
}

TEST_CASE("a disk that takes nothing at all is an error, not a loop") {
  on_fault_fs({.direct_io = true, .wait_for_direct = true}, [](support::fault_fs& disk) {
    for (const way& how : ways_of_short_writes()) {
      CAPTURE(name(how));
      disk_world w(disk, how);
      disk.orders().reset();
      disk.orders().short_bytes = 0;
      disk.orders().short_every = 1;
      const uploaded u = w.upload(1);
      REQUIRE(!u.outcome.has_value());
      const int failure = u.outcome.error().code;  // a ring makes EAGAIN of it, for ever
      CHECK_MESSAGE((failure == EIO || failure == EAGAIN), sluice::code_name(failure));
      CHECK(w.nothing_is_left());
    }
  });
}
