#include "output.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "control_client.hpp"
#include "sluice/counters.hpp"

namespace sluicectl {

namespace {

using sluice::knob_info;
using sluice::knob_type;
using sluice::knob_when;

std::string_view when_text(knob_when when) {
  switch (when) {
    case knob_when::build: return "build";
    case knob_when::start: return "start";
    case knob_when::live: return "live";
  }
  return "";
}

// A number where the knob is one, so that jq(1) can compare it.
nlohmann::ordered_json json_value(knob_type type, const std::string& text) {
  if (type == knob_type::flag) return text == "on";
  if (type == knob_type::choice || type == knob_type::text) return text;
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

nlohmann::ordered_json json_knob(const knob_info& info) {
  nlohmann::ordered_json knob = {{"value", json_value(info.type, info.value)},
                                 {"default", json_value(info.type, info.initial)}};
  if (!info.unit.empty()) knob["unit"] = info.unit;
  if (!info.min.empty()) knob["min"] = json_value(info.type, info.min);
  if (!info.max.empty()) knob["max"] = json_value(info.type, info.max);
  if (!info.choices.empty()) knob["choices"] = info.choices;
  knob["when"] = when_text(info.when);
  knob["help"] = info.help;
  return knob;
}

nlohmann::ordered_json json_counter(std::string_view name, std::string_view value) {
  std::uint64_t number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  nlohmann::ordered_json counter = {{"value", number}};
  const sluice::counter_snapshot table;
  const auto known = std::ranges::find(table, name, &sluice::counter_value::name);
  if (known == table.end()) return counter;
  counter["unit"] = known->unit;
  counter["kind"] = known->kind == sluice::counter_kind::total ? "total" : "gauge";
  counter["help"] = known->help;
  return counter;
}

}  // namespace

std::string range_text(const knob_info& info) {
  if (info.type == knob_type::flag) return "on or off";
  if (info.type == knob_type::text) return "text";
  if (info.type == knob_type::choice) return std::string(info.choices);
  const char* extra = info.type == knob_type::bytes_power_of_two ? ", a power of two" : "";
  return fmt::format("{} to {} {}{}", info.min, info.max, info.unit, extra);
}

void print_line(const options& o, std::string_view name, std::string_view value) {
  if (o.names_only) {
    fmt::print("{}\n", name);
  } else if (o.values_only) {
    fmt::print("{}\n", value);
  } else {
    fmt::print("{} = {}\n", name, value);
  }
}

void print_knobs(const options& o, const std::vector<knob_info>& shown) {
  if (o.json) {
    nlohmann::ordered_json all = nlohmann::ordered_json::object();
    for (const knob_info& info : shown) all[std::string(info.name)] = json_knob(info);
    fmt::print("{}\n", all.dump(2));
    return;
  }
  for (const knob_info& info : shown) {
    if (o.describe) {
      fmt::print("{}: {} ({}; default {}; {})\n", info.name, info.help, range_text(info),
                 info.initial.empty() ? "empty" : info.initial, when_text(info.when));
    } else {
      print_line(o, info.name, info.value);
    }
  }
}

void print_counters(const options& o, const std::vector<std::string>& lines) {
  nlohmann::ordered_json all = nlohmann::ordered_json::object();
  for (const std::string& line : lines) {
    const auto [name, value] = split_line(line);
    if (o.json)
      all[std::string(name)] = json_counter(name, value);
    else
      print_line(o, name, value);
  }
  if (o.json) fmt::print("{}\n", all.dump(2));
}

void print_probe(const options& o, const std::vector<std::string>& lines) {
  const auto [backend, why] = [&] {
    const std::string_view both = split_line(lines.at(0)).second;
    const std::size_t colon = std::min(both.find(": "), both.size());
    return std::pair(both.substr(0, colon), both.substr(std::min(colon + 2, both.size())));
  }();
  struct row {
    std::string_view name;
    bool present;
    std::string_view reason;
  };
  constexpr std::string_view absent = "no: ";
  std::vector<row> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const auto [name, found] = split_line(lines[i]);
    rows.push_back({name, found == "yes", found.starts_with(absent) ? found.substr(4) : ""});
  }
  if (o.json) {
    nlohmann::ordered_json capabilities = nlohmann::ordered_json::object();
    for (const row& r : rows)
      capabilities[std::string(r.name)] = {{"present", r.present}, {"reason", r.reason}};
    const nlohmann::ordered_json all = {
        {"backend", backend}, {"reason", why}, {"capabilities", capabilities}};
    fmt::print("{}\n", all.dump(2));
    return;
  }
  std::size_t width = 0;
  for (const row& r : rows) width = std::max(width, r.name.size());
  fmt::print("backend: {} ({})\n\n", backend, why);
  for (const row& r : rows) {
    if (r.present)
      fmt::print("{:<{}}  yes\n", r.name, width);
    else
      fmt::print("{:<{}}  no   {}\n", r.name, width, r.reason);
  }
}

}  // namespace sluicectl
