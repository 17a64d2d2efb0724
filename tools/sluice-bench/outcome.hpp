// What a case found out: rows of figures, the limit beside them, and the noise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "figures.hpp"
#include "server.hpp"

namespace bench {

struct row {
  std::string way;
  std::string peer;
  storage kept = storage::none;
  bool durable = false;
  bool ours = false;
  std::uint64_t object_bytes = 0;
  std::uint64_t bytes = 0;  // payload of one run
  unsigned connections = 0;
  std::vector<figures> runs;  // timed
  figures counted;            // from the counting pass, which is not timed
  figures compared;           // to the limit and to the best peer, once all rows are there
  bool verified = false;
  std::optional<claim> claimed;
  std::string unavailable;  // the reason there are no figures
  std::vector<std::string> command;

  // The median over the runs, and what the counting pass saw.
  [[nodiscard]] figures summary() const;
  [[nodiscard]] std::optional<double> median_of(const std::string& figure) const;
};

// What network and disk can do alone, for one combination of size and connections.
struct limit {
  std::uint64_t object_bytes = 0;
  unsigned connections = 0;
  std::optional<double> network_mib_per_second;
  std::optional<double> disk_mib_per_second;
  std::optional<double> network_cpu_s_per_gib;
  std::optional<double> network_machine_cpu_s_per_gib;
  std::optional<double> disk_cpu_s_per_gib;
  std::string disk_tool;
  std::optional<double> iperf3_mib_per_second;  // for information: one stream of large writes
};

struct noise {
  // The larger median over the smaller, of the same way twice.
  std::optional<double> a_a_ratio;      // of MiB/s
  std::optional<double> a_a_cpu_ratio;  // of the process
  std::optional<double> a_a_machine_cpu_ratio;
  std::string way;
  std::uint64_t object_bytes = 0;
  unsigned connections = 0;
};

struct outcome {
  std::string name;
  std::vector<std::string> columns;  // figures to print
  std::vector<row> rows;
  std::vector<limit> limits;
  noise floor;
  std::string copies_unavailable;  // the reason there are no measured copies
  std::vector<std::string> notes;
};

// Of two rows of the same way, measured in turn.
[[nodiscard]] noise noise_between(const row& a, const row& b);

// Fills row::compared: fractions of the limit, and ours against the best peer of the same storage.
void compare(outcome& all);

}  // namespace bench
