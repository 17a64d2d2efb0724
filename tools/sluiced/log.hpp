// Lines for whoever runs the server, on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluiced {

// Writes `text` and a line end in one call. Never fails: a log whose disk is full, or whose reader
// is gone, must not end the server. Any thread.
void print_line(std::FILE* to, std::string_view text) noexcept;

// The same to stderr, with "sluiced: " in front.
void say(std::string_view text) noexcept;

// What may happen a thousand times a second is said once a minute for each kind. One thread.
class rare_log {
 public:
  using clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes interval{1};
  static constexpr std::size_t kinds_max = 32;  // beyond, the kind said longest ago is forgotten

  // How many of the kind were kept back since the last one; nothing: keep this one back too.
  std::optional<std::uint64_t> due(std::string_view kind, clock::time_point now);

  // say(), unless a line of the kind was said within the interval.
  void say(std::string_view kind, std::string_view text);

 private:
  struct row {
    std::string kind;
    clock::time_point said;
    std::uint64_t kept_back = 0;
  };
  row& row_of(std::string_view kind);

  std::vector<row> rows_;
};

}  // namespace sluiced
