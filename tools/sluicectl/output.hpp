// What sluicectl prints: lines as sysctl(8) does, or one JSON object.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"
#include "sluice/knobs.hpp"

namespace sluicectl {

// "8 to 32768 entries".
[[nodiscard]] std::string range_text(const sluice::knob_info& info);

void print_line(const options& o, std::string_view name, std::string_view value);
void print_knobs(const options& o, const std::vector<sluice::knob_info>& shown);
// Lines `NAME = VALUE` of counters.
void print_counters(const options& o, const std::vector<std::string>& lines);
// What sluice::control_answer says of `probe`, as lines: the backend, then the capabilities.
void print_probe(const options& o, const std::vector<std::string>& lines);
// The manual page sluice.conf(5), as troff(1) source.
void print_man_page();

}  // namespace sluicectl
