// The command line as values, and how a complaint is made.
#pragma once

#include <fmt/format.h>
#include <stdio.h>

#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluicectl {

struct options {
  std::string control;
  std::string pattern;
  std::vector<std::string> words;     // NAME, NAME=VALUE, or one of the commands
  std::vector<std::string> files;     // of -p
  std::vector<std::string> settings;  // of --set
  bool all = false;
  bool write = false;
  bool values_only = false;
  bool names_only = false;
  bool unknown_ignored = false;
  bool quiet = false;
  bool system = false;
  bool json = false;
  bool describe = false;
  bool man = false;
};

inline constexpr int exit_good = 0;
inline constexpr int exit_bad = 1;

inline int complain(std::string_view text) {
  fmt::print(stderr, "sluicectl: {}\n", text);
  return exit_bad;
}

// -r PATTERN: which names count; all of them without it.
class name_filter {
 public:
  explicit name_filter(const std::string& pattern) {
    if (!pattern.empty()) expression_.emplace(pattern, std::regex::extended);
  }
  bool operator()(std::string_view name) const {
    return !expression_ || std::regex_search(name.begin(), name.end(), *expression_);
  }

 private:
  std::optional<std::regex> expression_;
};

// The named one, or, as sysctl does with a directory, every one below it.
inline bool is_at_or_below(std::string_view which, std::string_view name) {
  return which == name || (which.starts_with(name) && which.substr(name.size()).starts_with('.'));
}

// NAME=VALUE, with spaces around each side; nothing when there is no `=`.
[[nodiscard]] std::optional<std::pair<std::string, std::string>> assignment(
    const std::string& word);

}  // namespace sluicectl
