// Counting what a process does: hardware and software events, system calls, io-wq hand-offs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bench {

// perf_event_open(2) descriptors of one event, added up.
class event_group {
 public:
  event_group() = default;
  event_group(event_group&& other) noexcept;
  event_group& operator=(event_group&& other) noexcept;
  ~event_group();

  void add(int fd) { fds_.push_back(fd); }
  [[nodiscard]] bool empty() const { return fds_.empty(); }
  // Scaled by the share of time it was really counting; nothing when that was none.
  [[nodiscard]] std::optional<double> read() const;

 private:
  std::vector<int> fds_;
};

// Cycles, instructions, last-level cache misses, task-clock, context switches and page faults, user
// and kernel, of a process and everything it starts. An event the machine cannot count is absent.
class process_counters {
 public:
  // Call before the program of `pid` begins (child_options::before_exec).
  void attach(pid_t pid);
  [[nodiscard]] std::map<std::string, std::optional<double>> read() const;

 private:
  std::map<std::string, event_group> events_;
};

// System calls and io-wq hand-offs of a running process, by tracepoints. They slow every system
// call of the machine down, so they are open during a pass of their own.
class call_tracer {
 public:
  // Tries to; what is not allowed or not there stays unknown.
  explicit call_tracer(pid_t pid);
  [[nodiscard]] std::optional<double> system_calls() const { return system_calls_.read(); }
  [[nodiscard]] std::optional<double> worker_handoffs() const { return worker_handoffs_.read(); }

 private:
  event_group system_calls_;
  event_group worker_handoffs_;
};

// "hardware", "software" or "none": what process_counters can count here.
[[nodiscard]] std::string counters_available();

// Content of a file below tracefs, which is reached whether or not somebody mounted it.
[[nodiscard]] std::optional<std::string> read_tracefs(const std::string& path);

}  // namespace bench
