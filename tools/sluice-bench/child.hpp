// A server or a tool as a child process that does not outlive us.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace bench {

struct child_options {
  // Called in the parent with the child's id before the program begins: counters opened here see
  // every thread it will ever make.
  std::function<void(pid_t)> before_exec;
  bool quiet = false;  // its stderr is thrown away
};

// Move-only; the destructor kills and reaps.
class child {
 public:
  static std::expected<child, std::string> start(const std::vector<std::string>& arguments,
                                                 const child_options& options = {});
  child(child&& other) noexcept;
  child& operator=(child&& other) noexcept;
  ~child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  // The next line of its stdout without the end of line; nothing at its end or after `timeout`.
  [[nodiscard]] std::optional<std::string> read_line(std::chrono::milliseconds timeout);
  // Reads stdout to its end, then waits for the process: the exit status, or 128 + signal. Kills
  // it after `timeout`. What was read is in output().
  int finish(std::chrono::milliseconds timeout);
  void signal(int number) const;
  [[nodiscard]] const std::string& output() const { return read_; }

 private:
  child(pid_t pid, int out) : pid_(pid), out_(out) {}
  [[nodiscard]] bool read_more(std::chrono::steady_clock::time_point deadline);
  int reap(std::chrono::steady_clock::time_point deadline);
  pid_t pid_ = -1;
  int out_ = -1;
  std::string read_;  // not yet taken by read_line
};

// The whole stdout of a program that ended with 0 in time.
[[nodiscard]] std::optional<std::string> output_of(const std::vector<std::string>& arguments,
                                                   std::chrono::milliseconds timeout);

// Where a program is: `directories` first, then PATH, then where Debian keeps daemons.
[[nodiscard]] std::optional<std::string> find_program(
    const std::string& name, const std::vector<std::string>& directories = {});

}  // namespace bench
