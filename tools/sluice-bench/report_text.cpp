#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "report.hpp"

namespace bench {

namespace {

struct column {
  const char* figure;
  const char* heading;
  int decimals;
  double scale;
};

// How figures are shown; one that is not here is not printed.
constexpr column known_columns[] = {
    {"mib_per_second", "MiB/s", 0, 1},
    {"requests_per_second", "req/s", 0, 1},
    {"cpu_s_per_gib.process", "CPU s/GiB", 3, 1},
    {"cpu_s_per_gib.machine", "machine", 3, 1},
    {"cpu_us_per_request", "CPU us/req", 1, 1},
    {"of_limit.throughput", "of limit", 2, 1},
    {"of_limit.cpu", "CPU of l.", 2, 1},
    {"of_best_peer.throughput", "of peer", 2, 1},
    {"of_best_peer.cpu", "CPU of p.", 2, 1},
    {"syscalls_per_mib", "calls/MiB", 2, 1},
    {"syscalls_per_request", "calls/req", 2, 1},
    {"receives_per_block", "recv/block", 2, 1},
    {"syscalls_per_block", "calls/block", 2, 1},
    {"page_faults", "faults", 0, 1},
    {"io_wq_per_mib", "io-wq/MiB", 2, 1},
    {"copies_measured", "copies", 2, 1},
    {"context_switches", "switches", 0, 1},
    {"write_bytes_mean", "write KiB", 0, 1.0 / 1024},
    {"peak_rss_bytes", "peak MiB", 1, 1.0 / (1024 * 1024)},
    {"rss_bytes", "RSS MiB", 1, 1.0 / (1024 * 1024)},
    {"start_ms", "start ms", 2, 1},
    {"idle_connections", "idle", 0, 1},
    {"bytes_per_connection", "B/conn", 0, 1},
    {"anonymous_bytes_per_connection", "anon B/conn", 0, 1},
    {"kernel_bytes_per_connection", "kern B/conn", 0, 1},
    {"idle_cpu_percent", "CPU %", 3, 1},
    {"offered_share", "offered", 2, 1},
    {"p50_us", "p50 us", 0, 1},
    {"p99_us", "p99 us", 0, 1},
    {"p99_9_us", "p99.9 us", 0, 1},
    {"max_us", "max us", 0, 1},
};

const column* find_column(const std::string& figure) {
  for (const column& one : known_columns) {
    if (figure == one.figure) return &one;
  }
  return nullptr;
}

std::string shown(std::optional<double> figure, const column& how) {
  return figure ? fmt::format("{:.{}f}", *figure * how.scale, how.decimals) : "n/a";
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::pair<std::uint64_t, const char*> units[] = {
      {1u << 30, "GiB"}, {1u << 20, "MiB"}, {1u << 10, "KiB"}};
  for (const auto& [unit, text] : units) {
    if (bytes >= unit && bytes % unit == 0) return fmt::format("{} {}", bytes / unit, text);
  }
  return fmt::format("{} bytes", bytes);
}

std::vector<std::string> cells_of(const outcome& all, const row& one) {
  std::vector<std::string> cells = {one.way, name(one.kept), one.durable ? "yes" : "no"};
  const figures middle = one.summary();
  const figures spread = interquartile_range(one.runs);
  for (const std::string& figure : all.columns) {
    const column* const how = find_column(figure);
    if (how == nullptr) continue;
    std::string text = shown(value(middle, figure), *how);
    const bool first = figure == all.columns.front();
    if (first && value(spread, figure)) text += " +-" + shown(value(spread, figure), *how);
    cells.push_back(std::move(text));
  }
  cells.push_back(one.claimed ? fmt::format("{} {:.0f}", one.claimed->path, one.claimed->copies)
                              : "");
  return cells;
}

std::vector<std::string> headings(const outcome& all) {
  std::vector<std::string> cells = {"way", "storage", "durable"};
  for (const std::string& figure : all.columns) {
    if (const column* const how = find_column(figure)) cells.emplace_back(how->heading);
  }
  cells.emplace_back("receipt");
  return cells;
}

void print_aligned(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::size_t> widths;
  for (const auto& cells : lines) {
    widths.resize(std::max(widths.size(), cells.size()));
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  for (const auto& cells : lines) {
    std::string line = " ";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const bool text = i < 3 || i + 1 == widths.size();
      line += text ? fmt::format(" {:<{}}", cells[i], widths[i])
                   : fmt::format(" {:>{}}", cells[i], widths[i]);
    }
    fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
  }
}

void print_limit(const limit& bound) {
  const column rate{"", "", 0, 1};
  const column cpu{"", "", 3, 1};
  fmt::print("  limit: network alone {} MiB/s at {} CPU s/GiB",
             shown(bound.network_mib_per_second, rate), shown(bound.network_cpu_s_per_gib, cpu));
  if (!bound.disk_tool.empty()) {
    fmt::print("; disk alone {} MiB/s at {} ({})", shown(bound.disk_mib_per_second, rate),
               shown(bound.disk_cpu_s_per_gib, cpu), bound.disk_tool);
  }
  if (bound.iperf3_mib_per_second) {
    fmt::print("; iperf3 {} MiB/s", shown(bound.iperf3_mib_per_second, rate));
  }
  fmt::print("\n");
}

// A way that could not run has none.
std::size_t runs_in(const outcome& all, std::size_t first, std::size_t last) {
  std::size_t most = 0;
  for (std::size_t i = first; i < last; ++i) most = std::max(most, all.rows[i].runs.size());
  return most;
}

// The rows of one size and number of connections belong together.
void print_group(const outcome& all, std::size_t first, std::size_t last) {
  const row& head = all.rows[first];
  if (head.object_bytes > 0) {
    fmt::print("\n{}: {} x {} connection{}, {} runs\n", all.name, size_text(head.object_bytes),
               head.connections, head.connections == 1 ? "" : "s", runs_in(all, first, last));
  } else {
    fmt::print("\n{}: {} runs\n", all.name, runs_in(all, first, last));
  }
  std::vector<std::vector<std::string>> lines = {headings(all)};
  for (std::size_t i = first; i < last; ++i) {
    if (all.rows[i].unavailable.empty()) lines.push_back(cells_of(all, all.rows[i]));
  }
  print_aligned(lines);
  for (std::size_t i = first; i < last; ++i) {
    const row& one = all.rows[i];
    if (!one.unavailable.empty()) fmt::print("  {}: n/a: {}\n", one.way, one.unavailable);
  }
  for (const limit& bound : all.limits) {
    if (bound.object_bytes == head.object_bytes && bound.connections == head.connections)
      print_limit(bound);
  }
}

}  // namespace

void print(const outcome& all) {
  for (std::size_t first = 0; first < all.rows.size();) {
    std::size_t last = first;
    while (last < all.rows.size() && all.rows[last].object_bytes == all.rows[first].object_bytes &&
           all.rows[last].connections == all.rows[first].connections) {
      ++last;
    }
    print_group(all, first, last);
    first = last;
  }
  if (all.floor.a_a_ratio) {
    fmt::print("  noise: the same way twice ({}, {} x {}) differs by a factor of {:.3f}\n",
               all.floor.way, size_text(all.floor.object_bytes), all.floor.connections,
               *all.floor.a_a_ratio);
  }
  for (const std::string& note : all.notes) fmt::print("  {}\n", note);
  std::fflush(stdout);
}

}  // namespace bench
