// Yardsticks by other people's tools: the disk alone with no network in the way, and iperf3.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "setup.hpp"

namespace bench {

struct disk_order {
  std::string directory;
  std::uint64_t bytes = 0;
  std::uint64_t block_bytes = 0;
  unsigned depth = 16;
};

struct disk_speed {
  double mib_per_second = 0;
  double cpu_s_per_gib = 0;
  std::string tool;
};

// One sequential O_DIRECT write of a fresh, reserved file and its sync: by fio where it is
// installed, else by threads of our own. Nothing where the filesystem takes no O_DIRECT.
[[nodiscard]] std::optional<disk_speed> measure_disk(const setup& on, const disk_order& wanted);

// One stream of iperf3 over loopback for a second, in MiB/s: for information, beside our own sink.
[[nodiscard]] std::optional<double> measure_iperf3(const setup& on);

}  // namespace bench
