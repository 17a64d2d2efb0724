#include "range.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace sluiced {

namespace {

std::optional<std::string_view> after_unit(std::string_view field) {
  constexpr std::string_view unit = "bytes=";
  if (field.size() < unit.size()) return std::nullopt;
  for (std::size_t i = 0; i < unit.size(); ++i)
    if ((field[i] >= 'A' && field[i] <= 'Z' ? field[i] + ('a' - 'A') : field[i]) != unit[i])
      return std::nullopt;
  field.remove_prefix(unit.size());
  const std::size_t first = field.find_first_not_of(" \t");
  if (first == field.npos) return std::nullopt;
  return field.substr(first, field.find_last_not_of(" \t") - first + 1);
}

// 1*DIGIT; a number beyond 64 bits is beyond every file too.
std::optional<std::uint64_t> parse_position(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789") != text.npos) return std::nullopt;
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} ? value : UINT64_MAX;
}

byte_range last_bytes(std::uint64_t count, std::uint64_t size) {
  if (count == 0) return {range_kind::unsatisfiable, 0, 0};
  if (size == 0) return {range_kind::whole, 0, 0};  // Content-Range cannot say "all of nothing"
  const std::uint64_t length = std::min(count, size);
  return {range_kind::part, size - length, length};
}

}  // namespace

byte_range select_range(std::string_view field, std::uint64_t size) {
  const byte_range whole{range_kind::whole, 0, size};
  const std::optional<std::string_view> spec = after_unit(field);
  if (!spec) return whole;
  const std::size_t dash = spec->find('-');
  if (dash == spec->npos) return whole;
  const std::string_view before = spec->substr(0, dash);
  const std::string_view behind = spec->substr(dash + 1);

  if (before.empty()) {
    const std::optional<std::uint64_t> count = parse_position(behind);
    return count ? last_bytes(*count, size) : whole;
  }
  const std::optional<std::uint64_t> first = parse_position(before);
  const std::optional<std::uint64_t> last = behind.empty() ? UINT64_MAX : parse_position(behind);
  if (!first || !last || *last < *first) return whole;
  if (*first >= size) return {range_kind::unsatisfiable, 0, 0};
  return {range_kind::part, *first, std::min(*last, size - 1) - *first + 1};
}

}  // namespace sluiced
