// knobs.def as rows, and the one parser and the one printer of values.
#include "tuning/knob_table.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <utility>

namespace sluice::tuning {

namespace {

// backend_choice_words = "|auto|ring|pool"; the leading bar is cut off where the row is made.
#define SLUICE_CHOICES(set) constexpr std::string_view set##_words =
#define SLUICE_CHOICE(enumerator, text) "|" text
#define SLUICE_CHOICES_END(set) ;
#include "tuning/knobs.def"

// A row that contradicts itself does not compile.
#define SLUICE_NUMBER(group, field, name, type, unit, initial, min, max, when, help)             \
  static_assert((min) <= (initial) && (initial) <= (max), name ": the default is in range");     \
  static_assert(static_cast<field_type::type>(max) == (max), name ": the max fits");             \
  static_assert(                                                                                 \
      knob_type::type != knob_type::bytes_power_of_two ||                                        \
          (std::has_single_bit(std::uint64_t{min}) && std::has_single_bit(std::uint64_t{max}) && \
           std::has_single_bit(std::uint64_t{initial})),                                         \
      name ": powers of two");
#include "tuning/knobs.def"

#define SLUICE_LOAD(group, field) \
  [](const knob_values& v) { return static_cast<std::uint64_t>(v.group.field); }
#define SLUICE_STORE(group, field) \
  [](knob_values& v, std::uint64_t n) { v.group.field = static_cast<decltype(v.group.field)>(n); }

constexpr auto rows = std::to_array<knob_row>({
#define SLUICE_NUMBER(group, field, name, type, unit, initial, min, max, when, help) \
  {name,                                                                             \
   knob_type::type,                                                                  \
   unit,                                                                             \
   min,                                                                              \
   max,                                                                              \
   "",                                                                               \
   knob_when::when,                                                                  \
   help,                                                                             \
   SLUICE_LOAD(group, field),                                                        \
   SLUICE_STORE(group, field),                                                       \
   nullptr,                                                                          \
   nullptr},
#define SLUICE_FLAG(group, field, name, initial, when, help) \
  {name,                                                     \
   knob_type::flag,                                          \
   "",                                                       \
   0,                                                        \
   1,                                                        \
   "",                                                       \
   knob_when::when,                                          \
   help,                                                     \
   SLUICE_LOAD(group, field),                                \
   SLUICE_STORE(group, field),                               \
   nullptr,                                                  \
   nullptr},
#define SLUICE_WORD(group, field, name, choices, initial, when, help) \
  {name,                                                              \
   knob_type::choice,                                                 \
   "",                                                                \
   0,                                                                 \
   std::ranges::count(choices##_words, '|') - 1u,                     \
   choices##_words.substr(1),                                         \
   knob_when::when,                                                   \
   help,                                                              \
   SLUICE_LOAD(group, field),                                         \
   SLUICE_STORE(group, field),                                        \
   nullptr,                                                           \
   nullptr},
#define SLUICE_TEXT(group, field, name, initial, when, help)                 \
  {name,                                                                     \
   knob_type::text,                                                          \
   "",                                                                       \
   0,                                                                        \
   knob_text_bytes_max,                                                      \
   "",                                                                       \
   knob_when::when,                                                          \
   help,                                                                     \
   nullptr,                                                                  \
   nullptr,                                                                  \
   [](const knob_values& v) -> const std::string& { return v.group.field; }, \
   [](knob_values& v, std::string_view text) { v.group.field = text; }},
#include "tuning/knobs.def"
});

#undef SLUICE_LOAD
#undef SLUICE_STORE

// 10, 20, 30 or 40 for K, M, G, T; 0 for anything else.
unsigned suffix_shift(char suffix) {
  switch (suffix) {
    case 'K':
    case 'k': return 10;
    case 'M':
    case 'm': return 20;
    case 'G':
    case 'g': return 30;
    case 'T':
    case 't': return 40;
    default: return 0;
  }
}

bool counted_in_bytes(knob_type type) {
  return type == knob_type::bytes || type == knob_type::bytes_power_of_two ||
         type == knob_type::bytes_per_second;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// Decimal digits with an optional suffix. A number below zero or beyond 64 bits is a number all the
// same: out_of_range, not EINVAL, so that the answer names the range.
result<std::uint64_t> parse_number(const knob_row& row, std::string_view text) {
  unsigned shift = 0;
  if (counted_in_bytes(row.type) && !text.empty()) shift = suffix_shift(text.back());
  if (shift != 0) text.remove_suffix(1);
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (!all_digits(text)) return fail(EINVAL, "set", row.name.data());

  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool fits = parsed.ec == std::errc{} && number <= (UINT64_MAX >> shift);
  if (!fits || (negative && number != 0)) return fail(code::out_of_range, "set", row.name.data());
  return number << shift;
}

result<std::uint64_t> parse_flag(const knob_row& row, std::string_view text) {
  for (const std::string_view word : {"0", "off", "no", "false"})
    if (text == word) return 0;
  for (const std::string_view word : {"1", "on", "yes", "true"})
    if (text == word) return 1;
  return fail(EINVAL, "set", row.name.data());
}

// The index of the word in "auto|ring|pool".
result<std::uint64_t> parse_choice(const knob_row& row, std::string_view text) {
  std::string_view rest = row.choices;
  for (std::uint64_t index = 0; index <= row.max; ++index) {
    const std::string_view word = rest.substr(0, rest.find('|'));
    if (text == word) return index;
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  return fail(code::out_of_range, "set", row.name.data());
}

std::string_view choice_word(const knob_row& row, std::uint64_t index) {
  std::string_view rest = row.choices;
  for (; index != 0; --index) rest.remove_prefix(rest.find('|') + 1);
  return rest.substr(0, rest.find('|'));
}

result<void> parse_text(knob_values& target, const knob_row& row, std::string_view text) {
  if (text.size() > row.max) return fail(code::out_of_range, "set", row.name.data());
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(text, is_control)) return fail(EINVAL, "set", row.name.data());
  row.store_text(target, text);
  return {};
}

result<std::uint64_t> parse_by_type(const knob_row& row, std::string_view text) {
  if (row.type == knob_type::flag) return parse_flag(row, text);
  if (row.type == knob_type::choice) return parse_choice(row, text);
  return parse_number(row, text);
}

}  // namespace

std::span<const knob_row> knob_rows() { return rows; }

const knob_row* find_knob(std::string_view name) {
  const auto found = std::ranges::find(rows, name, &knob_row::name);
  return found == rows.end() ? nullptr : &*found;
}

bool is_number(knob_type type) {
  return type != knob_type::flag && type != knob_type::choice && type != knob_type::text;
}

result<void> parse_knob(knob_values& target, const knob_row& row, std::string_view text) {
  if (row.type == knob_type::text) return parse_text(target, row, text);
  const result<std::uint64_t> number = parse_by_type(row, text);
  if (!number) return std::unexpected(number.error());
  const bool odd = row.type == knob_type::bytes_power_of_two && !std::has_single_bit(*number);
  if (*number < row.min || *number > row.max || odd)
    return fail(code::out_of_range, "set", row.name.data());
  row.store(target, *number);
  return {};
}

std::string print_knob(const knob_values& source, const knob_row& row) {
  if (row.type == knob_type::text) return row.load_text(source);
  const std::uint64_t number = row.load(source);
  if (row.type == knob_type::flag) return number != 0 ? "on" : "off";
  if (row.type == knob_type::choice) return std::string(choice_word(row, number));
  return std::to_string(number);
}

result<void> set_live(knob_values& target, std::string_view name, std::string_view value) {
  const knob_row* row = find_knob(name);
  if (row == nullptr) return fail(code::unknown_name, "set");
  if (row->when != knob_when::live) return fail(code::start_only, "set", row->name.data());
  return parse_knob(target, *row, value);
}

}  // namespace sluice::tuning
