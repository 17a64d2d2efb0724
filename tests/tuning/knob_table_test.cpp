#include "tuning/knob_table.hpp"

#include <doctest/doctest.h>

#include <set>

namespace {

using namespace sluice;
using namespace sluice::tuning;

// What parse_knob says to a text: 0 or the error's code.
int refusal(const knob_row& row, std::string_view text) {
  knob_values values;
  const std::string before = print_knob(values, row);
  const result<void> done = parse_knob(values, row, text);
  if (done) return 0;
  CHECK(print_knob(values, row) == before);  // refused means unchanged
  CHECK(done.error().where == row.name);
  return done.error().code;
}

const knob_row& row_of(std::string_view name) {
  const knob_row* row = find_knob(name);
  REQUIRE(row != nullptr);
  return *row;
}

// The knob's value after it took the text.
std::string taken(std::string_view name, std::string_view text) {
  knob_values values;
  REQUIRE(parse_knob(values, row_of(name), text));
  return print_knob(values, row_of(name));
}

std::set<std::string> words(std::string_view choices) {
  std::set<std::string> all;
  for (std::size_t end = 0; end != std::string_view::npos; choices.remove_prefix(end + 1)) {
    end = choices.find('|');
    all.emplace(choices.substr(0, end));
    if (end == std::string_view::npos) break;
  }
  return all;
}

TEST_CASE("every name is unique, dotted, lower case and below sluice") {
  std::set<std::string_view> names;
  for (const knob_row& row : knob_rows()) {
    CAPTURE(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(row.name.starts_with("sluice."));
    CHECK(row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_.") == std::string_view::npos);
    CHECK(find_knob(row.name) == &row);
  }
}

TEST_CASE("every knob says what it is in full sentences, and its unit when it is a number") {
  for (const knob_row& row : knob_rows()) {
    CAPTURE(row.name);
    CHECK(row.help.size() > 40);
    CHECK(row.help.ends_with('.'));
    CHECK(row.unit.empty() != is_number(row.type));
    CHECK(row.choices.empty() == (row.type != knob_type::choice));
  }
}

TEST_CASE("every number takes its default, min and max, and refuses one less and one more") {
  for (const knob_row& row : knob_rows()) {
    if (!is_number(row.type)) continue;
    CAPTURE(row.name);
    CHECK(row.load(knob_values{}) >= row.min);
    CHECK(row.load(knob_values{}) <= row.max);
    for (const std::uint64_t limit : {row.min, row.max}) {
      knob_values values;
      REQUIRE(parse_knob(values, row, std::to_string(limit)));
      CHECK(row.load(values) == limit);
    }
    const std::string below = row.min == 0 ? "-1" : std::to_string(row.min - 1);
    CHECK(refusal(row, below) == code::out_of_range);
    CHECK(refusal(row, std::to_string(row.max + 1)) == code::out_of_range);
  }
}

TEST_CASE("every choice takes each of its words and refuses any other") {
  for (const knob_row& row : knob_rows()) {
    if (row.type != knob_type::choice) continue;
    CAPTURE(row.name);
    CHECK(words(row.choices).size() == row.max + 1);
    for (const std::string& word : words(row.choices)) CHECK(taken(row.name, word) == word);
    for (const std::string_view other : {"", "autos", "au", "Auto", "|", "auto|ring", "0"})
      CHECK(refusal(row, other) == code::out_of_range);
  }
}

TEST_CASE("every knob takes back what it printed") {
  for (const knob_row& row : knob_rows()) {
    CAPTURE(row.name);
    knob_values values;
    const std::string printed = print_knob(values, row);
    REQUIRE(parse_knob(values, row, printed));
    CHECK(print_knob(values, row) == printed);
  }
}

TEST_CASE("a row stores into its own member and no other") {
  for (const knob_row& row : knob_rows()) {
    if (row.store == nullptr) continue;
    knob_values values;
    const std::uint64_t other = row.load(values) == row.max ? row.min : row.max;
    row.store(values, other);
    CHECK(row.load(values) == other);
    for (const knob_row& neighbour : knob_rows())
      if (&neighbour != &row) CHECK(print_knob(values, neighbour) == print_knob({}, neighbour));
  }
}

TEST_CASE("bytes take binary suffixes in either case") {
  CHECK(taken("sluice.memory.arena_bytes", "1048576") == "1048576");
  CHECK(taken("sluice.memory.arena_bytes", "2048K") == "2097152");
  CHECK(taken("sluice.memory.arena_bytes", "16m") == "16777216");
  CHECK(taken("sluice.memory.arena_bytes", "1G") == "1073741824");
  CHECK(taken("sluice.memory.arena_bytes", "1T") == "1099511627776");
  CHECK(taken("sluice.receive.rate_min_bytes", "4K") == "4096");
}

TEST_CASE("only bytes take suffixes") {
  CHECK(refusal(row_of("sluice.ring.entries"), "1K") == EINVAL);
  CHECK(refusal(row_of("sluice.receive.timeout_ms"), "1K") == EINVAL);
}

TEST_CASE("what is no number is refused as such") {
  for (const std::string_view text : {"", " ", "K", "-", "-K", "+5", "5 ", " 5", "1.5G", "0x10",
                                      "1KB", "1KK", "1e6", "ten", "12;", "\xd9\xa3"}) {
    CAPTURE(text);
    CHECK(refusal(row_of("sluice.receive.direct_min_bytes"), text) == EINVAL);
  }
}

TEST_CASE("a number too large for 64 bits is out of range and does not wrap") {
  const knob_row& row = row_of("sluice.memory.arena_bytes");
  CHECK(refusal(row, "18446744073709551616") == code::out_of_range);
  CHECK(refusal(row, "16777217T") == code::out_of_range);  // 2^64 + 2^40 wraps to 1T
  CHECK(refusal(row, std::string(400, '9')) == code::out_of_range);
  CHECK(refusal(row, std::string(400, '9') + "T") == code::out_of_range);
  CHECK(refusal(row_of("sluice.ring.entries"), "4294967552") == code::out_of_range);  // 2^32 + 256
}

TEST_CASE("zeroes in front change nothing, and minus nought is nought") {
  CHECK(taken("sluice.ring.entries", "000512") == "512");
  CHECK(taken("sluice.receive.timeout_ms", "-0") == "0");
}

TEST_CASE("a block size has to be a power of two") {
  CHECK(refusal(row_of("sluice.memory.block_bytes"), "300K") == code::out_of_range);
  CHECK(refusal(row_of("sluice.memory.head_bytes"), "8193") == code::out_of_range);
  CHECK(taken("sluice.memory.block_bytes", "512K") == "524288");
}

TEST_CASE("a flag takes the usual words") {
  for (const std::string_view on : {"1", "on", "yes", "true"})
    CHECK(taken("sluice.storage.preallocate", on) == "on");
  for (const std::string_view off : {"0", "off", "no", "false"})
    CHECK(taken("sluice.storage.preallocate", off) == "off");
  for (const std::string_view other : {"", "2", "ON", "maybe", "-1", "o"})
    CHECK(refusal(row_of("sluice.storage.preallocate"), other) == EINVAL);
}

TEST_CASE("a text takes anything printable up to its length") {
  CHECK(taken("sluice.capabilities.hidden", "") == "");
  CHECK(taken("sluice.capabilities.hidden", "write_fixed, send_zc") == "write_fixed, send_zc");
  CHECK(taken("sluice.capabilities.hidden", std::string(1024, 'x')).size() == 1024);
  CHECK(refusal(row_of("sluice.capabilities.hidden"), std::string(1025, 'x')) ==
        code::out_of_range);
  CHECK(refusal(row_of("sluice.capabilities.hidden"), "a\nb") == EINVAL);
  CHECK(refusal(row_of("sluice.capabilities.hidden"), std::string_view("a\0b", 3)) == EINVAL);
}

TEST_CASE("a running engine takes live knobs and refuses the others") {
  for (const knob_row& row : knob_rows()) {
    CAPTURE(row.name);
    knob_values values;
    const result<void> done = set_live(values, row.name, print_knob(values, row));
    if (row.when == knob_when::live) {
      CHECK(done);
    } else {
      CHECK(done.error().code == code::start_only);
    }
  }
}

TEST_CASE("a live set is checked like any other") {
  knob_values values;
  CHECK(set_live(values, "sluice.receive.depth", "32"));
  CHECK(values.receive.depth == 32);
  CHECK(set_live(values, "sluice.receive.depth", "0").error().code == code::out_of_range);
  CHECK(set_live(values, "sluice.receive.deep", "1").error().code == code::unknown_name);
  CHECK(values.receive.depth == 32);
}

}  // namespace
