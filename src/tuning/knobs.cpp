// The public face of the knobs: values, their sources in order, and sentences about refusals.
#include "sluice/knobs.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "tuning/knob_table.hpp"

namespace sluice {

using tuning::knob_row;
using tuning::knob_values;

namespace {

// SLUICE_RECEIVE_PATH for sluice.receive.path.
std::string environment_name(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) {
    if (c == '.') c = '_';
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return upper;
}

void report(std::vector<knob_problem>* problems, std::string source, unsigned line,
            std::string text) {
  if (problems != nullptr) problems->push_back({std::move(source), line, std::move(text)});
}

// A value as it may be shown: it came from outside, so no control bytes and no endless line.
std::string quoted(std::string_view value) {
  constexpr std::size_t shown_max = 64;
  std::string text = "'";
  for (const char c : value.substr(0, shown_max))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text + (value.size() > shown_max ? "...'" : "'");
}

std::string range_text(const knob_row& row) {
  std::string text = std::to_string(row.min) + " to " + std::to_string(row.max);
  text.append(" ").append(row.unit);
  if (row.type == knob_type::bytes_power_of_two) text += ", a power of two";
  return text;
}

std::string out_of_range_text(const knob_row& row) {
  if (row.type == knob_type::choice) return " is not one of " + std::string(row.choices);
  if (row.type == knob_type::text) return " is longer than " + std::to_string(row.max) + " bytes";
  return " is out of range: " + range_text(row);
}

std::string wrong_type_text(const knob_row& row) {
  if (row.type == knob_type::flag) return " is not a flag: on or off";
  if (row.type == knob_type::text) return " has control characters";
  return " is not a number: " + range_text(row);
}

knob_info describe_row(const knob_values& now, const knob_row& row) {
  const knob_values defaults;
  const bool ranged = tuning::is_number(row.type);
  return {.name = row.name,
          .type = row.type,
          .value = tuning::print_knob(now, row),
          .unit = row.unit,
          .initial = tuning::print_knob(defaults, row),
          .min = ranged ? std::to_string(row.min) : "",
          .max = ranged ? std::to_string(row.max) : "",
          .choices = row.choices,
          .when = row.when,
          .help = row.help};
}

}  // namespace

const knob_values& tuning::values(const knobs& k) { return *k.values_; }

knobs::knobs() : values_(std::make_unique<knob_values>()) {}
knobs::knobs(const knobs& other) : values_(std::make_unique<knob_values>(*other.values_)) {}
knobs::~knobs() = default;

knobs& knobs::operator=(const knobs& other) {
  *values_ = *other.values_;
  return *this;
}

knobs knobs::from_files(std::vector<knob_problem>* problems) {
  knobs k;
  k.read_directories(knob_directories(), problems);
  k.read_environment(problems);
  return k;
}

void knobs::read_directories(std::span<const std::string_view> directories,
                             std::vector<knob_problem>* problems) {
  for (const std::string& path : knob_files(directories)) read_file(path, problems);
}

void knobs::read_file(const std::string& path, std::vector<knob_problem>* problems) {
  std::vector<knob_problem> found;
  for (const knob_setting& s : read_knob_file(path, &found)) {
    const result<void> done = set(s.name, s.value);
    if (!done && !s.errors_ignored)
      report(&found, path, s.line, explain_refusal(s.name, s.value, done.error()));
  }
  if (problems == nullptr) return;
  std::ranges::stable_sort(found, {}, &knob_problem::line);
  std::ranges::move(found, std::back_inserter(*problems));
}

void knobs::read_environment(std::vector<knob_problem>* problems) {
  for (const knob_row& row : tuning::knob_rows()) {
    const std::string variable = environment_name(row.name);
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) continue;
    const result<void> done = tuning::parse_knob(*values_, row, value);
    if (!done)
      report(problems, "environment", 0,
             variable + ": " + explain_refusal(row.name, value, done.error()));
  }
}

result<void> knobs::set(std::string_view name, std::string_view value) {
  const knob_row* row = tuning::find_knob(name);
  if (row == nullptr) return fail(code::unknown_name, "set");
  return tuning::parse_knob(*values_, *row, value);
}

result<std::string> knobs::get(std::string_view name) const {
  const knob_row* row = tuning::find_knob(name);
  if (row == nullptr) return fail(code::unknown_name, "get");
  return tuning::print_knob(*values_, *row);
}

result<knob_info> knobs::find(std::string_view name) const {
  const knob_row* row = tuning::find_knob(name);
  if (row == nullptr) return fail(code::unknown_name, "find");
  return describe_row(*values_, *row);
}

std::vector<knob_info> knobs::list() const {
  std::vector<knob_info> all;
  all.reserve(tuning::knob_rows().size());
  for (const knob_row& row : tuning::knob_rows()) all.push_back(describe_row(*values_, row));
  return all;
}

std::vector<std::string> knobs::conflicts() const {
  const knob_values& v = *values_;
  std::vector<std::string> found;
  // io_uring_setup(2): EINVAL when the completion queue is the smaller one.
  if (v.ring.completion_entries < v.ring.entries)
    found.emplace_back("sluice.ring.completion_entries is below sluice.ring.entries");
  if (v.memory.head_bytes > v.memory.block_bytes)
    found.emplace_back("sluice.memory.head_bytes is above sluice.memory.block_bytes");
  // The least that moves: every small block, one data block receiving and one being written.
  const std::uint64_t least = v.memory.head_blocks * v.memory.head_bytes + 2 * v.memory.block_bytes;
  if (least > v.memory.arena_bytes)
    found.emplace_back(
        "sluice.memory.arena_bytes is below sluice.memory.head_blocks times "
        "sluice.memory.head_bytes and two blocks of sluice.memory.block_bytes");
  return found;
}

std::string explain_refusal(std::string_view name, std::string_view value, const error& e) {
  const knob_row* row = tuning::find_knob(name);
  if (row == nullptr) return quoted(name) + " is no knob";
  const std::string subject = std::string(name) + ": ";
  if (e.code == code::start_only) return subject + "can only be set before the engine starts";
  if (e.code == code::out_of_range) return subject + quoted(value) + out_of_range_text(*row);
  if (e.code == EINVAL) return subject + quoted(value) + wrong_type_text(*row);
  return subject + describe(e);
}

}  // namespace sluice
