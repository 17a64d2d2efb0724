// The case out_of_order: the payloads of one large file come in random order within a window, as
// from many peers, and go to the disk. From memory, so that the disk is all there is to wait for:
// each payload is copied to where a receive would have put it, by every way alike.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "measure.hpp"
#include "place.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "usage.hpp"
#include "yardstick.hpp"

namespace bench {

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t payload_bytes = 16 * kib;
constexpr std::uint64_t page_bytes = 4096;
constexpr unsigned disk_depth = 16;
constexpr std::uint64_t disk_block_bytes = 512 * kib;
constexpr double cpu_resolution = 1e-6;

struct work {
  const pattern* payload = nullptr;
  std::string directory;
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> order;  // of the payloads, by their number in the file
};

// What a way needs for one run, and what it tells of itself.
struct attempt {
  int fd = -1;
  const work* of = nullptr;
  sluice::engine* engine = nullptr;
  std::uint64_t ops = 0;
  std::uint64_t bytes = 0;
  bool failed = false;
};

std::vector<std::uint64_t> shuffled(std::uint64_t bytes, std::uint64_t window) {
  std::vector<std::uint64_t> order(bytes / payload_bytes);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(20110421);
  const auto step = static_cast<std::ptrdiff_t>(window / payload_bytes);
  for (auto at = order.begin(); at != order.end();) {
    const auto end = at + std::min(step, order.end() - at);
    std::shuffle(at, end, random);
    at = end;
  }
  return order;
}

void receive_into(std::byte* memory, const work& of, std::uint64_t offset) {
  const auto bytes = of.payload->piece(0, offset, payload_bytes);
  std::memcpy(memory, bytes.data(), bytes.size());
}

struct freed {
  void operator()(void* memory) const { std::free(memory); }
};

// The plain way: a write per payload as it comes, and a sync.
void by_pwrite(attempt& a) {
  const std::unique_ptr<void, freed> memory(std::aligned_alloc(page_bytes, payload_bytes));
  for (const std::uint64_t index : a.of->order) {
    const std::uint64_t offset = index * payload_bytes;
    receive_into(static_cast<std::byte*>(memory.get()), *a.of, offset);
    const ssize_t written = ::pwrite(a.fd, memory.get(), payload_bytes, static_cast<off_t>(offset));
    if (written != static_cast<ssize_t>(payload_bytes)) {
      a.failed = true;
      return;
    }
  }
  a.ops = a.of->order.size();
  a.bytes = a.of->bytes;
  a.failed = ::fdatasync(a.fd) != 0;
}

sluice::task<sluice::result<void>> post_all(sluice::engine& e, sluice::block_writer& to,
                                            const work& of) {
  sluice::lease block;
  std::uint64_t used = 0;
  for (const std::uint64_t index : of.order) {
    if (!block || used + payload_bytes > block.size()) {
      block.reset();
      sluice::lease_await leasing = e.acquire_block();
      sluice::result<sluice::lease> leased = co_await leasing;
      if (!leased) co_return std::unexpected(leased.error());
      block = std::move(*leased);
      used = 0;
    }
    sluice::lease part = block.part(static_cast<std::uint32_t>(used), payload_bytes);
    used += payload_bytes;
    receive_into(part.data(), of, index * payload_bytes);
    while (!to.has_room()) {
      const sluice::result<void> roomy = co_await to.room();
      if (!roomy) co_return roomy;
    }
    const std::span<const std::byte> bytes = part.bytes();
    const sluice::result<void> posted = to.post(std::move(part), bytes, index * payload_bytes);
    if (!posted) co_return posted;
  }
  block.reset();
  co_return co_await to.commit();
}

// The file is its own, so that all is closed when the engine's run() returns.
sluice::task<void> write_posted(attempt& a) {
  a.failed = true;
  sluice::result<sluice::file> into = sluice::file::adopt(*a.engine, ::dup(a.fd));
  if (!into) co_return;
  sluice::result<sluice::block_writer> writer = co_await sluice::block_writer::open(*into);
  if (!writer) co_return;
  const sluice::result<void> done = co_await post_all(*a.engine, *writer, *a.of);
  a.failed = !done;
  a.ops = writer->stats().ops;
  a.bytes = writer->stats().bytes;
}

void by_block_writer(attempt& a) {
  a.engine->spawn(write_posted(a));
  a.engine->run();
}

struct contender {
  const char* name;
  const char* peer;
  storage kept;
  bool ours;
  int flags;  // of open(2)
  void (*run)(attempt&);
};
constexpr contender contenders[] = {
    {"block_writer", "block_writer", storage::direct, true, 0, by_block_writer},
    {"pwrite as they come", "pwrite", storage::page_cache, false, 0, by_pwrite},
    {"pwrite direct as they come", "pwrite", storage::direct, false, O_DIRECT, by_pwrite},
};

bool is_whole(int fd, const work& of) {
  std::vector<std::byte> piece(mib);
  for (std::uint64_t at = 0; at < of.bytes; at += piece.size()) {
    const std::size_t bytes = std::min<std::uint64_t>(piece.size(), of.bytes - at);
    if (::pread(fd, piece.data(), bytes, static_cast<off_t>(at)) != static_cast<ssize_t>(bytes) ||
        !of.payload->matches(0, at, std::span(piece).first(bytes)))
      return false;
  }
  return true;
}

// One run on a fresh file, reserved before the clock starts as for the limit. Nothing: a reason is
// in `seen` now.
std::optional<figures> run_once(const contender& who, const work& of, sluice::engine& e,
                                row& seen) {
  const std::string path = of.directory + "/large";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | who.flags, 0644);
  if (fd < 0) {
    seen.unavailable = fmt::format("open: {}", std::strerror(errno));
    return std::nullopt;
  }
  attempt a{.fd = fd, .of = &of, .engine = &e};
  a.failed = ::posix_fallocate(fd, 0, static_cast<off_t>(of.bytes)) != 0;
  const auto cpu = process_cpu_seconds(::getpid());
  const double start = seconds_now();
  if (!a.failed) who.run(a);
  const double seconds = seconds_now() - start;
  const auto used = cpu_between(cpu, process_cpu_seconds(::getpid()), cpu_resolution);
  ::close(fd);
  const int again = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (a.failed || !is_whole(again, of)) seen.unavailable = a.failed ? "failed" : "wrong bytes";
  ::close(again);
  ::unlink(path.c_str());
  if (!seen.unavailable.empty()) return std::nullopt;
  const auto bytes = static_cast<double>(of.bytes);
  return figures{{"seconds", seconds},
                 {"mib_per_second", bytes / bytes_per_mib / seconds},
                 {"cpu_s_per_gib.process", ratio(used, bytes / bytes_per_gib)},
                 {"write_bytes_mean", static_cast<double>(a.bytes) / static_cast<double>(a.ops)}};
}

row row_of(const contender& who, const work& of) {
  row seen;
  seen.way = who.name;
  seen.peer = who.peer;
  seen.kept = who.kept;
  seen.durable = true;
  seen.ours = who.ours;
  seen.object_bytes = payload_bytes;
  seen.bytes = of.bytes;
  seen.connections = 1;
  return seen;
}

std::optional<sluice::engine> make_engine(std::uint64_t window) {
  sluice::knobs settings;
  // The window, what is on its way to the disk, and a quarter free, below which it hurries.
  const std::uint64_t arena = std::max<std::uint64_t>(2 * window, 64 * mib);
  if (!settings.set("sluice.memory.arena_bytes", fmt::format("{}", arena))) return std::nullopt;
  sluice::result<sluice::engine> made = sluice::engine::create(settings);
  if (!made) return std::nullopt;
  return std::move(*made);
}

}  // namespace

outcome run_out_of_order(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "out_of_order";
  all.columns = {"mib_per_second",      "cpu_s_per_gib.process",   "write_bytes_mean",
                 "of_limit.throughput", "of_best_peer.throughput", "of_best_peer.cpu"};
  const bool tiny = on.how_much == effort::tiny;
  const std::uint64_t window = tiny ? mib : 64 * mib;
  work of{&payload, "", tiny ? 4 * mib : 1024 * mib, {}};
  of.order = shuffled(of.bytes, window);
  all.notes.push_back(
      fmt::format("from memory, random order within {} MiB of {} MiB; the limit is "
                  "a sequential O_DIRECT write of {} KiB blocks",
                  window / mib, of.bytes / mib, disk_block_bytes / kib));
  const auto place = scratch::make(on.directory);
  std::optional<sluice::engine> engine = make_engine(window);
  if (!place || !engine || free_bytes(on.directory) < 3 * of.bytes) {
    all.notes.emplace_back("left out: no engine, or too few bytes free");
    return all;
  }
  of.directory = place->path();
  for (const contender& who : contenders) all.rows.push_back(row_of(who, of));
  std::vector<figures> disk;
  limit bound;
  bound.object_bytes = payload_bytes;
  bound.connections = 1;
  // The first run of each warms up.
  for (unsigned turn = 0; turn <= on.runs; ++turn) {
    for (std::size_t i = 0; i < all.rows.size(); ++i) {
      const std::size_t which = turn % 2 == 0 ? i : all.rows.size() - 1 - i;
      row& seen = all.rows[which];
      if (!seen.unavailable.empty()) continue;
      const auto figures_of_run = run_once(contenders[which], of, *engine, seen);
      if (figures_of_run && turn > 0) seen.runs.push_back(*figures_of_run);
    }
    const auto speed = measure_disk(on, {place->path(), of.bytes, disk_block_bytes, disk_depth});
    if (!speed || turn == 0) continue;
    disk.push_back({{"rate", speed->mib_per_second}, {"cpu", speed->cpu_s_per_gib}});
    bound.disk_tool = speed->tool;
  }
  if (!disk.empty()) {
    bound.disk_mib_per_second = value(median(disk), "rate");
    bound.disk_cpu_s_per_gib = value(median(disk), "cpu");
  }
  for (row& seen : all.rows) seen.verified = seen.unavailable.empty();
  all.limits.push_back(bound);
  compare(all);
  return all;
}

}  // namespace bench
