#include "outcome.hpp"

#include <algorithm>

namespace bench {

namespace {

bool same_combination(const row& a, const row& b) {
  return a.object_bytes == b.object_bytes && a.connections == b.connections;
}

std::optional<double> least(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

std::optional<double> sum(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return std::nullopt;
  return *a + *b;
}

void compare_to_limit(row& of, const limit& bound) {
  const bool disk = of.kept == storage::direct || (of.kept == storage::page_cache && of.durable);
  const auto rate = disk ? least(bound.network_mib_per_second, bound.disk_mib_per_second)
                         : bound.network_mib_per_second;
  const auto cpu = disk && bound.disk_mib_per_second
                       ? sum(bound.network_cpu_s_per_gib, bound.disk_cpu_s_per_gib)
                       : bound.network_cpu_s_per_gib;
  of.compared["of_limit.throughput"] = ratio(of.median_of("mib_per_second"), rate);
  of.compared["of_limit.cpu"] = ratio(of.median_of("cpu_s_per_gib.process"), cpu);
}

// On disk, a durable row promises the same whether it went through the page cache or around it.
bool same_place(const row& a, const row& b) {
  const auto durable_on_disk = [](const row& r) {
    return r.durable && (r.kept == storage::page_cache || r.kept == storage::direct);
  };
  return a.kept == b.kept || (durable_on_disk(a) && durable_on_disk(b));
}

// The fastest row of the same combination that is not ours, keeps its data in the same state of
// storage and promises as much.
const row* best_peer(const outcome& all, const row& ours) {
  const row* best = nullptr;
  for (const row& other : all.rows) {
    const bool comparable = !other.ours && other.peer != "sink" && same_combination(other, ours) &&
                            other.durable == ours.durable && same_place(other, ours);
    if (!comparable || !other.median_of("mib_per_second")) continue;
    if (best == nullptr || *other.median_of("mib_per_second") > *best->median_of("mib_per_second"))
      best = &other;
  }
  return best;
}

}  // namespace

figures row::summary() const {
  figures all = median(runs);
  for (const auto& [name, counted_value] : counted) all[name] = counted_value;
  for (const auto& [name, compared_value] : compared) all[name] = compared_value;
  return all;
}

std::optional<double> row::median_of(const std::string& figure) const {
  return value(median(runs), figure);
}

noise noise_between(const row& a, const row& b) {
  const auto ratio_of = [&](const char* figure) -> std::optional<double> {
    const auto first = a.median_of(figure);
    const auto second = b.median_of(figure);
    if (!first || !second) return std::nullopt;
    return std::max(*first, *second) / std::min(*first, *second);
  };
  noise seen;
  seen.a_a_ratio = ratio_of("mib_per_second");
  seen.a_a_cpu_ratio = ratio_of("cpu_s_per_gib.process");
  seen.a_a_machine_cpu_ratio = ratio_of("cpu_s_per_gib.machine");
  seen.way = a.way;
  seen.object_bytes = a.object_bytes;
  seen.connections = a.connections;
  return seen;
}

void compare(outcome& all) {
  for (row& one : all.rows) {
    for (const limit& bound : all.limits) {
      const bool same =
          bound.object_bytes == one.object_bytes && bound.connections == one.connections;
      if (same && one.unavailable.empty() && one.peer != "sink") compare_to_limit(one, bound);
    }
    const row* const best = one.ours && one.unavailable.empty() ? best_peer(all, one) : nullptr;
    if (best == nullptr) continue;
    one.compared["of_best_peer.throughput"] =
        ratio(one.median_of("mib_per_second"), best->median_of("mib_per_second"));
    one.compared["of_best_peer.cpu"] =
        ratio(one.median_of("cpu_s_per_gib.process"), best->median_of("cpu_s_per_gib.process"));
  }
}

}  // namespace bench
