#include "measure.hpp"

#include <chrono>
#include <thread>

#include "usage.hpp"

namespace bench {

namespace {

std::optional<double> difference(std::optional<double> after, std::optional<double> before) {
  if (!after || !before) return std::nullopt;
  return *after - *before;
}

std::optional<double> per(std::optional<double> amount, double units) {
  if (!amount || units <= 0) return std::nullopt;
  return *amount / units;
}

}  // namespace

measurement::measurement(const server& of) : of_(&of) {
  reset_peak_memory(of.pid());
  counted_ = of.counters().read();
  machine_cpu_ = machine_cpu_seconds();
  process_cpu_ = of.forks() ? std::nullopt : process_cpu_seconds(of.pid());
}

figures measurement::finish(double seconds, std::uint64_t requests, std::uint64_t bytes) {
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const auto machine = cpu_between(machine_cpu_, machine_cpu_seconds(), machine_cpu_resolution);
  const auto after = of_->counters().read();
  const auto counted = [&](const std::string& event) {
    return difference(value(after, event), value(counted_, event));
  };
  const auto on_cpu = per(counted("task_clock"), 1e9);
  const auto process =
      of_->forks() ? on_cpu : cpu_between(process_cpu_, process_cpu_seconds(of_->pid()), 1e-9);
  const double payload = static_cast<double>(bytes);
  figures seen;
  seen["seconds"] = seconds;
  seen["requests_per_second"] = static_cast<double>(requests) / seconds;
  seen["mib_per_second"] = payload / bytes_per_mib / seconds;
  seen["cpu_s_per_gib.process"] = per(process, payload / bytes_per_gib);
  seen["cpu_s_per_gib.machine"] = per(machine, payload / bytes_per_gib);
  seen["cpu_us_per_request"] = per(process, static_cast<double>(requests) / 1e6);
  seen["cycles_per_byte"] = per(counted("cycles"), payload);
  seen["instructions_per_byte"] = per(counted("instructions"), payload);
  seen["llc_misses_per_byte"] = per(counted("llc_misses"), payload);
  seen["task_clock_seconds"] = on_cpu;
  seen["context_switches"] = counted("context_switches");
  seen["page_faults"] = counted("page_faults");
  if (!of_->forks()) seen["peak_rss_bytes"] = memory_of(of_->pid(), "VmHWM");
  return seen;
}

}  // namespace bench
