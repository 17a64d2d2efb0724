// The case framed: streams of frames, each a head of 13 bytes and a payload, whose payloads are
// wanted page-aligned. Copied out of large receives, received in place with more calls, or both at
// once? Without disk, and stored.
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "counters.hpp"
#include "frame_load.hpp"
#include "load.hpp"
#include "measure.hpp"
#include "place.hpp"

namespace bench {

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;

struct method {
  const char* name;
  const char* peer;
  std::vector<std::string> settings = {};
  std::vector<std::string> arguments = {};
  bool without_disk = true;
  bool direct = true;
  bool quick = true;
  unsigned connections_max = 4096;
};

std::vector<std::string> mode_set(const char* mode) {
  // A block for each of 256 connections, and as much on its way to the disk.
  return {std::string("sluice.frames.mode=") + mode, "sluice.memory.arena_bytes=256M"};
}

std::vector<std::string> multishot_in_bundles() {
  std::vector<std::string> made = mode_set("multishot");
  made.emplace_back("sluice.frames.bundles=on");
  return made;
}

const std::vector<method> methods = {
    {"sluice auto", "serve", mode_set("auto"), {}},
    {"sluice scatter", "serve", mode_set("scatter"), {}},
    {"sluice contiguous", "serve", mode_set("contiguous"), {}},
    {"sluice two_step", "serve", mode_set("two_step"), {}},
    {.name = "sluice multishot",
     .peer = "serve",
     .settings = mode_set("multishot"),
     .quick = false},
    {.name = "sluice multishot, bundles",
     .peer = "serve",
     .settings = multishot_in_bundles(),
     .quick = false},
    {"contiguous + memcpy", "recv_framed", {}, {"--way", "contiguous"}},
    {.name = "contiguous + memcpy, threads",
     .peer = "recv_framed",
     .arguments = {"--way", "contiguous", "--threads"}},
    {"two calls", "recv_framed", {}, {"--way", "two_calls"}},
    {.name = "two calls, threads",
     .peer = "recv_framed",
     .arguments = {"--way", "two_calls", "--threads"}},
    {"readv, all alike", "recv_framed", {}, {"--way", "readv"}},
    {"multishot + memcpy", "recv_framed_multishot", {}, {}},
    {"multishot, bundles + memcpy", "recv_framed_multishot", {}, {"--bundles"}},
    {.name = "multishot, bundles of 16 KiB buffers + memcpy",  // as much memory, cut smaller
     .peer = "recv_framed_multishot",
     .arguments = {"--bundles", "--buffers", "256"},
     .quick = false},
    {.name = "recv into a mapped file",
     .peer = "recv_framed",
     .arguments = {"--way", "mapped"},
     .without_disk = false,
     .direct = false},
};

struct point {
  std::uint64_t payload_bytes = 0;
  unsigned connections = 1;
  std::uint64_t bytes_each = 0;  // of a connection
};

struct entrant {
  way which;
  scratch place;
  std::string directory;
  std::optional<server> running;
  row seen;
  std::uint64_t next_id = 0;
};

const char* mode_of(storage kept) {
  if (kept == storage::none) return "discard";
  return kept == storage::direct ? "store_direct" : "store";
}

// Sender and receiver each on a CPU of its own while it lives, where there are two: woken on the
// sender's, a receiver waits for it.
class apart {
 public:
  explicit apart(pid_t receiver) {
    if (sched_getaffinity(0, sizeof before_, &before_) != 0 || CPU_COUNT(&before_) < 2) return;
    int first = 0;
    while (!CPU_ISSET(first, &before_)) ++first;
    cpu_set_t ours;
    CPU_ZERO(&ours);
    CPU_SET(first, &ours);
    cpu_set_t others = before_;
    CPU_CLR(first, &others);
    pinned_ = sched_setaffinity(0, sizeof ours, &ours) == 0;
    // Every thread there is: connections are accepted, so theirs are among them.
    std::error_code ignored;
    const std::string tasks = fmt::format("/proc/{}/task", receiver);
    for (const auto& task : std::filesystem::directory_iterator(tasks, ignored)) {
      sched_setaffinity(std::atoi(task.path().filename().c_str()), sizeof others, &others);
    }
  }
  apart(const apart&) = delete;
  apart& operator=(const apart&) = delete;
  ~apart() {
    if (pinned_) sched_setaffinity(0, sizeof before_, &before_);
  }

 private:
  cpu_set_t before_{};
  bool pinned_ = false;
};

frame_order order_of(const point& at, std::uint64_t first_id) {
  return {at.payload_bytes, at.connections, at.bytes_each, first_id};
}

std::expected<figures, std::string> run_once(const setup& on, const pattern& payload,
                                             const point& at, entrant& e, std::uint64_t* sum) {
  const frame_order sent = order_of(at, e.next_id);
  e.next_id += at.connections;
  auto load = frame_load::connect(payload, e.running->port(), sent);
  if (!load) return std::unexpected(load.error());
  let_accept(at.connections);
  std::optional<apart> cpus;
  if (e.which.kept == storage::none) cpus.emplace(e.running->pid());
  measurement around(*e.running);
  const auto done = load->run();
  if (!done) return std::unexpected(done.error());
  const std::uint64_t bytes = at.bytes_each * at.connections;
  const std::uint64_t frames = bytes / at.payload_bytes;
  figures seen = around.finish(done->seconds, frames, bytes);
  seen["receives_per_block"] = static_cast<double>(done->receives) / static_cast<double>(frames);
  if (sum != nullptr) *sum = done->sum;
  if (e.which.kept == storage::none) return seen;
  auto right = verify_and_retire(payload, e.directory,
                                 {sent.first_id, at.connections, at.bytes_each}, on.retired);
  if (on.how_much != effort::tiny && e.which.kept != storage::tmpfs) {
    sync_filesystem(e.directory);  // the next run does not pay for this one
  }
  if (!right) return std::unexpected(right.error());
  return seen;
}

std::expected<void, std::string> start(const setup& on, entrant& e, const way& which) {
  const server_order order{mode_of(which.kept), e.directory, e.directory};
  e.seen.command = command_of(on, which, order);
  auto started = server::start(on, which, order);
  if (!started) return std::unexpected(started.error());
  e.running.emplace(std::move(*started));
  return {};
}

// What keeps nothing is verified in a run of its own, by a receiver that sums every byte up.
std::expected<void, std::string> verify_without_disk(const setup& on, const pattern& payload,
                                                     const point& at, entrant& e) {
  way checking = e.which;
  checking.arguments.emplace_back("--check");
  if (auto started = start(on, e, checking); !started) return started;
  const std::uint64_t wanted = expected_sum(payload, order_of(at, e.next_id));
  std::uint64_t sum = 0;
  auto seen = run_once(on, payload, at, e, &sum);
  e.running.reset();
  if (!seen) return std::unexpected(seen.error());
  if (sum != wanted) return std::unexpected("wrong bytes");
  return {};
}

// Started and verified or warmed up.
std::expected<void, std::string> prepare(const setup& on, const pattern& payload, const point& at,
                                         entrant& e) {
  const std::string parent = e.which.kept == storage::tmpfs ? on.tmpfs : on.directory;
  if (parent.empty()) return std::unexpected("no such storage here");
  if (at.connections > e.which.connections_max)
    return std::unexpected(
        fmt::format("meant for {} connections at most", e.which.connections_max));
  auto place = scratch::make(parent);
  if (!place) return std::unexpected(place.error());
  e.place = std::move(*place);
  e.directory = e.place.folder("objects");
  if (e.which.kept == storage::none) {
    if (auto right = verify_without_disk(on, payload, at, e); !right) return right;
  }
  if (auto started = start(on, e, e.which); !started) return started;
  const auto warm = run_once(on, payload, at, e, nullptr);
  if (!warm) return std::unexpected(warm.error());
  return {};
}

void give_up(entrant& e, const std::string& why) {
  e.seen.unavailable = why;
  e.running.reset();
  tell(fmt::format("  {}: n/a: {}", e.which.name, why));
}

void count(const setup& on, const pattern& payload, const point& at, entrant& e) {
  const call_tracer tracer(e.running->pid());
  const auto seen = run_once(on, payload, at, e, nullptr);
  if (!seen) return give_up(e, seen.error());
  const auto frames = static_cast<double>(e.seen.bytes / at.payload_bytes);
  const auto calls = tracer.system_calls();
  e.seen.counted["syscalls_per_block"] = calls ? std::optional(*calls / frames) : std::nullopt;
}

std::vector<way> ways_of(const setup& on, storage kept) {
  std::vector<way> all;
  for (const method& m : methods) {
    way one;
    one.name = kept == storage::none ? m.name : fmt::format("{}, {}", m.name, name(kept));
    one.peer = m.peer;
    one.kept = kept;
    one.durable = false;
    one.settings = m.settings;
    one.arguments = m.arguments;
    one.connections_max = m.connections_max;
    const bool fits = (kept != storage::none || m.without_disk) &&
                      (kept != storage::direct || m.direct) &&
                      (m.quick || on.how_much != effort::quick);
    if (fits && one.name.find(on.only) != std::string::npos) all.push_back(one);
  }
  return all;
}

std::vector<row> hold(const setup& on, const pattern& payload, const point& at, storage kept) {
  std::vector<entrant> all;
  for (const way& which : ways_of(on, kept)) {
    all.push_back(entrant{which, scratch::none(), "", std::nullopt, {}, 0});
    entrant& e = all.back();
    e.seen.way = which.name;
    e.seen.peer = which.peer;
    e.seen.kept = kept;
    e.seen.ours = which.ours();
    e.seen.object_bytes = at.payload_bytes;
    e.seen.bytes = at.bytes_each * at.connections;
    e.seen.connections = at.connections;
    if (auto ready = prepare(on, payload, at, e); !ready) give_up(e, ready.error());
  }
  for (unsigned turn = 0; turn < on.runs; ++turn) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      entrant& e = all[turn % 2 == 0 ? i : all.size() - 1 - i];
      if (!e.running) continue;
      const auto seen = run_once(on, payload, at, e, nullptr);
      if (seen) {
        e.seen.runs.push_back(*seen);
      } else {
        give_up(e, seen.error());
      }
    }
  }
  std::vector<row> rows;
  for (entrant& e : all) {
    if (e.running) count(on, payload, at, e);
    if (e.running) static_cast<void>(e.running->stop());
    e.seen.verified = e.seen.unavailable.empty();
    rows.push_back(std::move(e.seen));
  }
  return rows;
}

// Sizes times connections: as asked for, or by effort. A connection carries whole blocks.
std::vector<point> points_of(const setup& on, storage kept) {
  std::vector<std::uint64_t> payloads = on.payload_bytes;
  std::vector<unsigned> connections = on.connections;
  const bool full = on.how_much == effort::full;
  const bool tiny = on.how_much == effort::tiny;
  if (payloads.empty()) payloads = {16 * kib};
  if (on.payload_bytes.empty() && full)
    payloads = {kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib};
  if (connections.empty()) connections = {tiny ? 2u : 1u};
  if (on.connections.empty() && full) connections = {1, 16, 256};
  std::uint64_t in_all = tiny ? 4 * mib : 512 * mib;
  if (kept == storage::none && full) in_all *= 2;
  std::vector<point> all;
  for (const std::uint64_t bytes : payloads) {
    const std::uint64_t unit = std::max(bytes, 256 * kib);
    for (const unsigned number : connections) {
      all.push_back({bytes, number, std::max<std::uint64_t>(in_all / number / unit, 1) * unit});
    }
  }
  return all;
}

std::vector<storage> storages_of(const setup& on) {
  std::vector<storage> kept = {storage::none, storage::tmpfs, storage::page_cache, storage::direct};
  if (on.storages.empty() && on.how_much == effort::quick) return {storage::none};
  std::erase_if(kept, [&](storage one) {
    return !on.storages.empty() && std::ranges::find(on.storages, name(one)) == on.storages.end();
  });
  return kept;
}

}  // namespace

outcome run_framed(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "framed";
  all.columns = {"mib_per_second",     "cpu_s_per_gib.process",   "cpu_s_per_gib.machine",
                 "receives_per_block", "syscalls_per_block",      "page_faults",
                 "context_switches",   "of_best_peer.throughput", "of_best_peer.cpu"};
  all.notes.emplace_back(
      "heads of 13 bytes as BitTorrent's, payloads of the size shown; stored ones in one file for "
      "each connection, not synced; without disk, sender and receiver have a CPU each");
  if (on.how_much != effort::tiny) warm_memory(on.directory, 1024 * mib);
  for (const storage kept : storages_of(on)) {
    for (const point& at : points_of(on, kept)) {
      const std::uint64_t bytes = at.bytes_each * at.connections;
      tell(fmt::format("framed: {} bytes x {} connections, {}", at.payload_bytes, at.connections,
                       name(kept)));
      if (kept != storage::none && free_bytes(on.directory) < 3 * bytes) {
        all.notes.push_back("left out, too few bytes free: " + std::string(name(kept)));
        continue;
      }
      const std::vector<row> rows = hold(on, payload, at, kept);
      all.rows.insert(all.rows.end(), rows.begin(), rows.end());
    }
  }
  // Rows of one size and number of connections are shown together.
  std::ranges::stable_sort(
      all.rows, {}, [](const row& one) { return std::pair(one.object_bytes, one.connections); });
  compare(all);
  return all;
}

}  // namespace bench
