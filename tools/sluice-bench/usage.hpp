// What a process and the machine have used: /proc and the CPU clock of a process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace bench {

// User and system time of all threads, ended ones and the kernel's io-wq workers included: the sum
// that /proc/PID/stat shows in ticks, from the process's CPU clock in nanoseconds.
[[nodiscard]] std::optional<double> process_cpu_seconds(pid_t pid);

// The same of all our children that have ended and were waited for.
[[nodiscard]] double children_cpu_seconds();

// Busy time of all CPUs from /proc/stat: everything but idle, iowait and steal. In ticks of 10 ms.
[[nodiscard]] std::optional<double> machine_cpu_seconds();

// A field of /proc/PID/status in bytes ("VmRSS", "RssAnon", "VmHWM").
[[nodiscard]] std::optional<double> memory_of(pid_t pid, const std::string& field);
// Makes "VmHWM" begin again at the present level.
void reset_peak_memory(pid_t pid);

// A CPU's time as a difference, nothing when it is below what its clock can show.
[[nodiscard]] std::optional<double> cpu_between(std::optional<double> before,
                                                std::optional<double> after, double resolution);

[[nodiscard]] double seconds_now();  // CLOCK_MONOTONIC

inline constexpr double machine_cpu_resolution = 0.02;

}  // namespace bench
