// Configuration files, by the rules of sysctl.d(5): which ones count, and what their lines say.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include "sluice/knobs.hpp"

namespace sluice {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t file_bytes_max = 1 << 20;
constexpr std::array<std::string_view, 3> directories_weakest_first = {
    "/usr/lib/sluice.d", "/run/sluice.d", "/etc/sluice.d"};

void report(std::vector<knob_problem>* problems, const std::string& path, unsigned line,
            std::string text) {
  if (problems != nullptr) problems->push_back({path, line, std::move(text)});
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\v\f";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// Editors leave .50-ring.conf.swp and 50-ring.conf~ behind; neither is meant.
bool is_knob_file_name(std::string_view name) {
  return name.ends_with(".conf") && !name.starts_with('.');
}

bool hides_only(const fs::path& path) {
  std::error_code ec;
  return fs::is_symlink(path, ec) && fs::canonical(path, ec) == "/dev/null";
}

// Why the file is not read; empty when it can be. A FIFO would make the reader wait for ever.
std::string refusal(const std::string& path) {
  std::error_code ec;
  const fs::file_status status = fs::status(path, ec);
  if (status.type() == fs::file_type::not_found) return "no such file";
  if (ec) return ec.message();
  if (!fs::is_regular_file(status)) return "not a regular file";
  if (fs::file_size(path, ec) > file_bytes_max) return "larger than 1 MiB";
  return {};
}

// `name = value`, `-name = value`; nothing for blank and comment lines and for what is reported.
void read_line(std::string_view raw, unsigned line, const std::string& path,
               std::vector<knob_setting>& settings, std::vector<knob_problem>* problems) {
  std::string_view text = trimmed(raw);
  if (text.empty() || text.front() == '#' || text.front() == ';') return;
  const bool errors_ignored = text.front() == '-';
  if (errors_ignored) text.remove_prefix(1);
  const std::size_t equals = text.find('=');
  const std::string_view name = trimmed(text.substr(0, equals));
  if (equals == std::string_view::npos || name.empty()) {
    report(problems, path, line, "expected `name = value`");
    return;
  }
  const std::string_view value = trimmed(text.substr(equals + 1));
  settings.push_back({std::string(name), std::string(value), line, errors_ignored});
}

}  // namespace

std::string describe(const knob_problem& problem) {
  std::string text = problem.source;
  if (problem.line != 0) text.append(":").append(std::to_string(problem.line));
  return text.append(": ").append(problem.text);
}

std::span<const std::string_view> knob_directories() { return directories_weakest_first; }

std::vector<std::string> knob_files(std::span<const std::string_view> directories) {
  std::map<std::string, fs::path> by_name;  // a stronger directory replaces the weaker's file
  for (const std::string_view directory : directories) {
    std::error_code ec;
    for (fs::directory_iterator at(directory, ec), end; !ec && at != end; at.increment(ec)) {
      const std::string name = at->path().filename().string();
      if (is_knob_file_name(name)) by_name[name] = at->path();
    }
  }
  std::vector<std::string> paths;
  for (const auto& [name, path] : by_name)
    if (!hides_only(path)) paths.push_back(path.string());
  return paths;
}

std::vector<knob_setting> read_knob_file(const std::string& path,
                                         std::vector<knob_problem>* problems) {
  std::vector<knob_setting> settings;
  if (const std::string why = refusal(path); !why.empty()) {
    report(problems, path, 0, why);
    return settings;
  }
  std::ifstream in(path);
  if (!in) report(problems, path, 0, "cannot be opened for reading");
  std::string text;
  for (unsigned line = 1; std::getline(in, text); ++line)
    read_line(text, line, path, settings, problems);
  return settings;
}

}  // namespace sluice
