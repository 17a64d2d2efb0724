// The rows of knobs.def as data: what listings, parsing, the man page and the range tests walk
// over.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "sluice/knobs.hpp"
#include "tuning/knob_values.hpp"

namespace sluice::tuning {

inline constexpr std::size_t knob_text_bytes_max = 1024;

// One knob. Numbers, flags (0 or 1) and choices (index of the word) travel as one std::uint64_t
// through load and store; a text uses load_text and store_text, and the other pair is null.
struct knob_row {
  std::string_view name;
  knob_type type;
  std::string_view unit;
  std::uint64_t min;
  std::uint64_t max;
  std::string_view choices;  // "auto|ring|pool"
  knob_when when;
  std::string_view help;
  std::uint64_t (*load)(const knob_values&);
  void (*store)(knob_values&, std::uint64_t);
  const std::string& (*load_text)(const knob_values&);
  void (*store_text)(knob_values&, std::string_view);
};

// All rows in the order of knobs.def.
std::span<const knob_row> knob_rows();

// The row of that name, or null.
const knob_row* find_knob(std::string_view name);

// True for the types whose value is a number with a range.
bool is_number(knob_type type);

// Parses `text` by the row's type and range and stores it. Errors, the value then being unchanged:
// out_of_range, EINVAL; see knobs::set.
result<void> parse_knob(knob_values& target, const knob_row& row, std::string_view text);

// The value as text that parse_knob takes back.
std::string print_knob(const knob_values& source, const knob_row& row);

}  // namespace sluice::tuning
