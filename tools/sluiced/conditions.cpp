#include "conditions.hpp"

#include <fmt/compile.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "http_date.hpp"

namespace sluiced {

namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_opaque(std::string_view tag) {  // etagc of section 8.8.3
  return std::ranges::all_of(tag, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == 0x21 || (byte >= 0x23 && byte != 0x7f);
  });
}

struct entity_tag {
  std::string_view quoted;
  bool weak = false;
};

// Takes one entity tag off the front of `rest`; nothing when there is none.
std::optional<entity_tag> take_tag(std::string_view& rest) {
  entity_tag tag;
  if (rest.starts_with("W/")) {
    tag.weak = true;
    rest.remove_prefix(2);
  }
  if (!rest.starts_with('"')) return std::nullopt;
  const std::size_t end = rest.find('"', 1);
  if (end == rest.npos || !is_opaque(rest.substr(1, end - 1))) return std::nullopt;
  tag.quoted = rest.substr(0, end + 1);
  rest.remove_prefix(end + 1);
  return tag;
}

std::int64_t floor_seconds(std::int64_t ns) {
  constexpr std::int64_t second = 1'000'000'000;
  return ns / second - (ns % second < 0 ? 1 : 0);
}

verdict check_unmodified(const conditions& given, const validators* current) {
  const std::optional<std::int64_t> since = parse_http_date(given.if_unmodified_since);
  if (!since || current == nullptr) return verdict::proceed;  // section 13.1.4: ignored
  return current->modified_seconds <= *since ? verdict::proceed : verdict::failed;
}

verdict check_modified(const conditions& given, const validators* current) {
  const std::optional<std::int64_t> since = parse_http_date(given.if_modified_since);
  if (!since || current == nullptr) return verdict::proceed;
  return current->modified_seconds <= *since ? verdict::not_modified : verdict::proceed;
}

// "*" means any content at all.
tag_match match_field(std::string_view field, const validators* current, comparison how) {
  if (trimmed(field) == "*") return current != nullptr ? tag_match::yes : tag_match::no;
  return match_tags(field, current != nullptr ? std::string_view(current->etag) : "", how);
}

}  // namespace

validators validators_of(const sluice::file_info& info) {
  return {fmt::format(FMT_COMPILE("\"{:x}-{:x}-{:x}\""), info.inode, info.bytes,
                      static_cast<std::uint64_t>(info.modified_ns)),
          floor_seconds(info.modified_ns)};
}

tag_match match_tags(std::string_view list, std::string_view etag, comparison how) {
  bool found = false;
  std::size_t tags = 0;
  std::string_view rest = trimmed(list);
  while (!rest.empty()) {
    if (rest.starts_with(',')) {  // section 5.6.1.2: empty elements are allowed
      rest = trimmed(rest.substr(1));
      continue;
    }
    const std::optional<entity_tag> tag = take_tag(rest);
    rest = trimmed(rest);
    if (!tag || (!rest.empty() && !rest.starts_with(','))) return tag_match::malformed;
    ++tags;
    if (tag->quoted == etag && (how == comparison::weak || !tag->weak)) found = true;
  }
  if (tags == 0) return tag_match::malformed;
  return found ? tag_match::yes : tag_match::no;
}

verdict evaluate(const conditions& given, request_kind kind, const validators* current) {
  if (!given.if_match.empty()) {
    const tag_match match = match_field(given.if_match, current, comparison::strong);
    if (match == tag_match::malformed) return verdict::malformed;
    if (match == tag_match::no) return verdict::failed;
  } else if (check_unmodified(given, current) == verdict::failed) {
    return verdict::failed;
  }
  if (!given.if_none_match.empty()) {
    const tag_match match = match_field(given.if_none_match, current, comparison::weak);
    if (match == tag_match::malformed) return verdict::malformed;
    if (match == tag_match::no) return verdict::proceed;
    return kind == request_kind::reads ? verdict::not_modified : verdict::failed;
  }
  return kind == request_kind::reads ? check_modified(given, current) : verdict::proceed;
}

bool range_applies(const conditions& given, const validators& current, std::int64_t now_seconds) {
  if (given.if_range.empty()) return true;
  const std::optional<std::int64_t> date = parse_http_date(given.if_range);
  if (date) return *date == current.modified_seconds && current.modified_seconds < now_seconds;
  return given.if_range == current.etag;
}

}  // namespace sluiced
