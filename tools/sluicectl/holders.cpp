#include "holders.hpp"

#include <algorithm>

namespace sluicectl {

using sluice::knob_info;

namespace {

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

knob_info unknown_knob(std::string_view name) {
  knob_info info{};
  info.name = name;
  info.type = sluice::knob_type::text;
  return info;
}

}  // namespace

bool knob_holder::knows(std::string_view name) {
  const std::vector<knob_info> all = list();
  return std::ranges::find(all, name, &knob_info::name) != all.end();
}

std::expected<std::string, std::string> future_knobs::set(const std::string& name,
                                                          const std::string& value) {
  const sluice::result<void> done = held_.set(name, value);
  if (!done) return std::unexpected(sluice::explain_refusal(name, value, done.error()));
  return *held_.get(name);
}

std::vector<knob_info> live_knobs::list() {
  const std::vector<std::string> lines = process_.need("list");
  const sluice::knobs table;
  std::vector<knob_info> all;
  for (const std::string& line : lines) {
    const auto [name, value] = split_line(line);
    const sluice::result<knob_info> known = table.find(name);
    all.push_back(known ? *known : unknown_knob(keep(name)));
    all.back().value = value;
  }
  return all;
}

std::expected<std::string, std::string> live_knobs::set(const std::string& name,
                                                        const std::string& value) {
  // What would be several words, or several requests, on the line.
  if (name.empty() || name.find(' ') != name.npos || has_control_characters(name))
    return std::unexpected(sluice::explain_refusal(name, value, {sluice::code::unknown_name}));
  if (has_control_characters(value)) return std::unexpected(name + ": has control characters");
  const auto answer = process_.ask("set " + name + " " + value);
  if (!answer) return std::unexpected(answer.error());
  return std::string(split_line(answer->empty() ? "" : answer->front()).second);
}

std::string_view live_knobs::keep(std::string_view name) {
  const auto kept = std::ranges::find(names_, name);
  return kept == names_.end() ? names_.emplace_back(name) : *kept;
}

}  // namespace sluicectl
