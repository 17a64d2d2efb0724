// The cases that move objects in a closed loop: receive, send, durable. Each is a table of ways and
// a table of combinations.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "contest.hpp"
#include "copies.hpp"
#include "place.hpp"
#include "yardstick.hpp"

namespace bench {

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;

const std::string path_direct = "sluice.receive.path=direct";
const std::string path_copy = "sluice.receive.path=copy";
const std::string path_splice = "sluice.receive.path=splice";
const std::string path_mapped = "sluice.receive.path=mapped";
const std::string send_direct = "sluice.send.path=direct";
const std::string send_copy = "sluice.send.path=copy";
const std::string send_splice = "sluice.send.path=splice";
const std::string send_zc = "sluice.send.zero_copy=always";
const std::string on_pool = "sluice.backend=pool";

const way network_limit{
    .name = "network alone", .peer = "sink", .kept = storage::none, .durable = false};

// Threads cost too much above a thousand; ours come first, then the plain ways, then servers.
const std::vector<way> receive_ways = {
    {.name = "sluice auto", .peer = "serve"},
    {.name = "sluice direct", .peer = "serve", .kept = storage::direct, .settings = {path_direct}},
    {.name = "recv_direct",
     .peer = "recv_direct",
     .kept = storage::direct,
     .connections_max = 1024},
    {.name = "sluice copy", .peer = "serve", .settings = {path_copy}},
    {.name = "sluice splice", .peer = "serve", .settings = {path_splice}, .quick = false},
    {.name = "sluice mapped", .peer = "serve", .settings = {path_mapped}, .quick = false},
    {.name = "sluice direct, pool",
     .peer = "serve",
     .kept = storage::direct,
     .settings = {path_direct, on_pool},
     .sampled = true},
    {.name = "sluice copy, pool",
     .peer = "serve",
     .settings = {path_copy, on_pool},
     .sampled = true},
    {.name = "sluice splice, pool",
     .peer = "serve",
     .settings = {path_splice, on_pool},
     .sampled = true},
    {.name = "sluice mapped, pool",
     .peer = "serve",
     .settings = {path_mapped, on_pool},
     .sampled = true},
    {.name = "recv_write", .peer = "recv_write"},
    {.name = "recv_write_threads", .peer = "recv_write_threads", .connections_max = 1024},
    {.name = "recv_splice", .peer = "recv_splice", .connections_max = 1024},
    {.name = "recv_mapped", .peer = "recv_mapped", .connections_max = 1024},
    {.name = "sluiced PUT", .peer = "sluiced"},
    {.name = "nginx PUT, no sync", .peer = "nginx", .durable = false},
    {.name = "nginx PUT, one syncfs", .peer = "nginx", .sync_at_end = true},
    {.name = "sluice copy, tmpfs",
     .peer = "serve",
     .kept = storage::tmpfs,
     .settings = {path_copy}},
    {.name = "sluice auto, tmpfs", .peer = "serve", .kept = storage::tmpfs, .quick = false},
    {.name = "sluice splice, tmpfs",
     .peer = "serve",
     .kept = storage::tmpfs,
     .settings = {path_splice},
     .sampled = true},
    {.name = "sluice mapped, tmpfs",
     .peer = "serve",
     .kept = storage::tmpfs,
     .settings = {path_mapped},
     .sampled = true},
    {.name = "recv_write, tmpfs", .peer = "recv_write", .kept = storage::tmpfs},
    {.name = "recv_splice, tmpfs",
     .peer = "recv_splice",
     .kept = storage::tmpfs,
     .quick = false,
     .connections_max = 1024},
    {.name = "recv_mapped, tmpfs",
     .peer = "recv_mapped",
     .kept = storage::tmpfs,
     .quick = false,
     .connections_max = 1024},
    {.name = "nginx PUT, tmpfs", .peer = "nginx", .kept = storage::tmpfs, .durable = false},
    network_limit,
};

const std::vector<way> send_ways = {
    {.name = "sluice", .peer = "serve"},
    {.name = "sluice direct", .peer = "serve", .kept = storage::direct, .settings = {send_direct}},
    {.name = "sluice splice", .peer = "serve", .settings = {send_splice}, .quick = false},
    {.name = "sluice copy", .peer = "serve", .settings = {send_copy}, .quick = false},
    {.name = "sluice direct, SEND_ZC",
     .peer = "serve",
     .kept = storage::direct,
     .settings = {send_direct, send_zc},
     .sampled = true},
    {.name = "sluice copy, SEND_ZC",
     .peer = "serve",
     .settings = {send_copy, send_zc},
     .sampled = true},
    {.name = "sluice direct, pool",
     .peer = "serve",
     .kept = storage::direct,
     .settings = {send_direct, on_pool},
     .sampled = true},
    {.name = "sluice splice, pool",
     .peer = "serve",
     .settings = {send_splice, on_pool},
     .sampled = true},
    {.name = "sluice copy, pool",
     .peer = "serve",
     .settings = {send_copy, on_pool},
     .sampled = true},
    {.name = "send_sendfile", .peer = "send_sendfile"},
    {.name = "send_read", .peer = "send_read"},
    {.name = "send_direct",
     .peer = "send_direct",
     .kept = storage::direct,
     .connections_max = 1024},
    {.name = "sluiced GET", .peer = "sluiced"},
    {.name = "nginx GET", .peer = "nginx"},
    {.name = "sluice, tmpfs", .peer = "serve", .kept = storage::tmpfs, .quick = false},
    {.name = "send_sendfile, tmpfs",
     .peer = "send_sendfile",
     .kept = storage::tmpfs,
     .quick = false},
    network_limit,
};

const std::vector<way> durable_ways = {
    {.name = "sluice", .peer = "serve"},
    {.name = "sluice direct",
     .peer = "serve",
     .kept = storage::direct,
     .settings = {path_direct},
     .quick = false},
    {.name = "recv_write_threads", .peer = "recv_write_threads", .connections_max = 1024},
    {.name = "sluiced PUT", .peer = "sluiced"},
    {.name = "nginx PUT, no sync", .peer = "nginx", .durable = false},
    network_limit,
};

struct size_plan {
  std::vector<std::uint64_t> object_bytes;
  std::vector<unsigned> connections;
  std::uint64_t bytes_max = 0;    // payload of one run: what is larger in all is left out
  std::uint64_t objects_max = 0;  // of a run that syncs each; eight times as many without
  bool sample = false;            // every way, those too that are measured at few points
};

// Sizes times connections. A run moves at least one object per connection; combinations that would
// move more than bytes_max with that make no sense and are dropped.
std::vector<combination> combine(const size_plan& plan) {
  std::vector<combination> all;
  for (const std::uint64_t bytes : plan.object_bytes) {
    for (const unsigned connections : plan.connections) {
      if (bytes * connections > plan.bytes_max) continue;
      const std::uint64_t fits = plan.bytes_max / bytes;
      const auto bounded = [&](std::uint64_t most) {
        return std::max<std::uint64_t>(connections, std::min(fits, most));
      };
      all.push_back({bytes, connections, bounded(plan.objects_max), bounded(plan.objects_max * 8),
                     plan.sample});
    }
  }
  return all;
}

std::vector<combination> chain(const std::vector<size_plan>& plans) {
  std::vector<combination> all;
  for (const size_plan& one : plans) std::ranges::copy(combine(one), std::back_inserter(all));
  return all;
}

std::vector<combination> transfer_sizes(const setup& on) {
  if (on.how_much == effort::tiny) {
    return combine({{16 * kib, 512 * kib}, {2}, mib, 2, true});
  }
  if (on.how_much == effort::quick) {
    return chain({{{64 * kib}, {16}, 256 * mib, 512}, {{256 * mib}, {1}, 256 * mib, 512}});
  }
  // Not the whole grid, which takes hours: small objects by few and by many, large ones by few.
  return chain({{{4 * kib}, {16, 4096}, 256 * mib, 512},
                {{64 * kib}, {16}, 256 * mib, 512, true},
                {{64 * kib}, {256}, 256 * mib, 512},
                {{256 * kib, mib}, {16}, 256 * mib, 512, true},
                {{16 * mib}, {1, 16}, 256 * mib, 512},
                {{256 * mib}, {1}, 256 * mib, 512},
                {{gib}, {1}, gib, 512, true}});
}

std::vector<combination> durable_sizes(const setup& on) {
  if (on.how_much == effort::tiny) return combine({{16 * kib}, {2}, mib, 2});
  if (on.how_much == effort::quick) return combine({{16 * kib}, {1, 64}, gib, 512});
  return combine({{16 * kib}, {1, 4, 16, 64, 256}, gib, 1024});
}

struct transfer_case {
  std::string name;
  direction towards = direction::upload;
  std::string mode;
  const std::vector<way>* ways = nullptr;
  std::vector<combination> sizes;
  std::vector<std::string> columns;
};

std::vector<way> chosen(const setup& on, const std::vector<way>& all) {
  std::vector<way> kept;
  for (const way& one : all) {
    const bool wanted = one.peer == "sink" || one.name.find(on.only) != std::string::npos;
    if (wanted && (one.quick || on.how_much != effort::quick)) kept.push_back(one);
  }
  return kept;
}

std::vector<way> those_at(const combination& size, const std::vector<way>& ways) {
  std::vector<way> kept;
  std::ranges::copy_if(ways, std::back_inserter(kept),
                       [&size](const way& one) { return size.sample || !one.sampled; });
  return kept;
}

// The disk's own limit does not depend on connections: measured once for each block size.
class disk_limits {
 public:
  explicit disk_limits(const setup& on, std::uint64_t bytes) : on_(&on), bytes_(bytes) {}

  void fill(limit& bound) {
    // Ours: sluice.memory.block_bytes.
    const std::uint64_t block = std::min<std::uint64_t>(bound.object_bytes, 512 * kib);
    if (!known_.contains(block)) known_[block] = measure(block);
    const found& disk = known_[block];
    bound.disk_mib_per_second = value(disk.speed, "rate");
    bound.disk_cpu_s_per_gib = value(disk.speed, "cpu");
    bound.disk_tool = disk.tool;
  }

 private:
  struct found {
    figures speed;
    std::string tool;
  };

  found measure(std::uint64_t block) {
    const auto place = scratch::make(on_->directory);
    if (!place) return {};
    std::vector<figures> runs;
    std::string tool;
    // Small blocks take long: a smaller file shows the same rate.
    const std::uint64_t bytes = std::min(bytes_, block * 16384);
    for (unsigned i = 0; i < std::min(on_->runs, 3u); ++i) {
      const auto speed = measure_disk(*on_, {place->path(), bytes, block, 16});
      if (!speed) return {};
      runs.push_back({{"rate", speed->mib_per_second}, {"cpu", speed->cpu_s_per_gib}});
      tool = speed->tool;
    }
    return {median(runs), tool};
  }

  const setup* on_;
  std::uint64_t bytes_;
  std::map<std::uint64_t, found> known_;
};

limit limit_of(const combination& size, const std::vector<row>& rows) {
  limit bound;
  bound.object_bytes = size.object_bytes;
  bound.connections = size.connections;
  for (const row& one : rows) {
    if (one.peer != "sink") continue;
    bound.network_mib_per_second = one.median_of("mib_per_second");
    bound.network_cpu_s_per_gib = one.median_of("cpu_s_per_gib.process");
    bound.network_machine_cpu_s_per_gib = one.median_of("cpu_s_per_gib.machine");
  }
  return bound;
}

// One run's files at a time, those of the disk's own limit, and as much again to be on the safe
// side.
std::vector<combination> that_fit(const setup& on, const std::vector<combination>& sizes,
                                  outcome& all) {
  std::vector<combination> kept;
  const std::uint64_t free = free_bytes(on.directory);
  for (const combination& size : sizes) {
    const std::uint64_t bytes = size.object_bytes * std::max(size.objects, size.objects_unsynced);
    if (3 * bytes <= free) {
      kept.push_back(size);
      continue;
    }
    all.notes.push_back(fmt::format("left out, {} bytes free are too few: {} bytes x {}", free,
                                    size.object_bytes, size.connections));
  }
  return kept;
}

outcome run_transfers(const setup& on, const pattern& payload, const transfer_case& wanted) {
  outcome all;
  all.name = wanted.name;
  all.columns = wanted.columns;
  const std::vector<combination> sizes = that_fit(on, wanted.sizes, all);
  if (sizes.empty()) return all;
  std::uint64_t most = 0;
  for (const combination& size : sizes) {
    most = std::max(most, size.object_bytes * std::max(size.objects, size.objects_unsynced));
  }
  if (on.how_much != effort::tiny) warm_memory(on.directory, 2 * most);
  contest_order order;
  order.towards = wanted.towards;
  order.mode = wanted.mode;
  const std::vector<way> ways = chosen(on, *wanted.ways);
  order.size = sizes.back();
  order.ways = those_at(order.size, ways);
  if (order.ways.front().peer != "sink") all.floor = measure_noise(on, payload, order);
  disk_limits disk(on, most);
  const auto iperf3 = on.how_much == effort::tiny ? std::nullopt : measure_iperf3(on);
  for (const combination& size : sizes) {
    order.size = size;
    order.ways = those_at(size, ways);
    tell(fmt::format("{}: {} bytes x {} connections, {} ways, {} runs", wanted.name,
                     size.object_bytes, size.connections, order.ways.size(), on.runs));
    const std::vector<row> rows = hold_contest(on, payload, order);
    limit bound = limit_of(size, rows);
    if (wanted.towards == direction::upload) disk.fill(bound);
    bound.iperf3_mib_per_second = iperf3;
    all.limits.push_back(bound);
    all.rows.insert(all.rows.end(), rows.begin(), rows.end());
  }
  all.copies_unavailable = can_measure_copies(on).why;
  compare(all);
  return all;
}

const std::vector<std::string> transfer_columns = {
    "mib_per_second",   "cpu_s_per_gib.process", "cpu_s_per_gib.machine",   "of_limit.throughput",
    "of_limit.cpu",     "syscalls_per_mib",      "io_wq_per_mib",           "copies_measured",
    "context_switches", "peak_rss_bytes",        "of_best_peer.throughput", "of_best_peer.cpu",
};

}  // namespace

outcome run_receive(const setup& on, const pattern& payload) {
  return run_transfers(on, payload,
                       {"receive", direction::upload, "receive", &receive_ways, transfer_sizes(on),
                        transfer_columns});
}

outcome run_send(const setup& on, const pattern& payload) {
  outcome all = run_transfers(
      on, payload,
      {"send", direction::download, "send", &send_ways, transfer_sizes(on), transfer_columns});
  if (on.how_much != effort::quick) {
    all.notes.emplace_back(
        "SEND_ZC to a peer on the same machine: the kernel copies after all, and connections wait "
        "0.2 s and more for the peer's closed window, so path auto does not do it there "
        "(kernel-notes/zero_copy_send_answers_twice.md)");
  }
  return all;
}

outcome run_durable(const setup& on, const pattern& payload) {
  std::vector<std::string> columns = transfer_columns;
  columns.insert(columns.begin(), {"requests_per_second", "cpu_us_per_request"});
  return run_transfers(
      on, payload,
      {"durable", direction::upload, "durable", &durable_ways, durable_sizes(on), columns});
}

}  // namespace bench
