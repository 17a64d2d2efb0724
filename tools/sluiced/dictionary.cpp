#include "dictionary.hpp"

#include <algorithm>

namespace sluiced {

namespace {

// Not <cctype>: that asks the locale.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_alpha(char c) { return is_lower(c) || (c >= 'A' && c <= 'Z'); }
bool is_one_of(char c, std::string_view set) { return set.find(c) != set.npos; }
bool is_space(char c) { return c == ' '; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_key_part(char c) { return is_lower(c) || is_digit(c) || is_one_of(c, "_-.*"); }
bool is_token_part(char c) {
  return is_alpha(c) || is_digit(c) || is_one_of(c, "!#$%&'*+-.^_`|~:/");
}
bool is_base64(char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "+/="); }
bool is_printable(char c) { return c >= 0x20 && c <= 0x7e; }

// Takes one construct after the other off the front of a field. Every function that says false has
// found what no dictionary may have there, and the rest is not looked at.
class scanner {
 public:
  explicit scanner(std::string_view field) : rest_(field) {}

  bool take_dictionary(std::vector<member>& into) {
    take_while(is_space);
    while (!rest_.empty()) {
      member m;
      if (!take_member(m)) return false;
      std::erase_if(into, [&m](const member& before) { return before.key == m.key; });
      into.push_back(m);
      take_while(is_blank);
      if (rest_.empty()) return true;
      if (!take(',')) return false;
      take_while(is_blank);
      if (rest_.empty()) return false;  // a comma with nothing behind it
    }
    return true;
  }

 private:
  [[nodiscard]] bool next_is(char c) const { return rest_.starts_with(c); }
  bool take(char c) {
    if (!next_is(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  template <class Predicate>
  std::string_view take_while(Predicate holds) {
    const auto* end = std::ranges::find_if_not(rest_, holds);
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  bool take_key(std::string_view& key) {
    if (rest_.empty() || !(is_lower(rest_.front()) || next_is('*'))) return false;
    key = take_while(is_key_part);
    return true;
  }

  bool take_member(member& m) {
    if (!take_key(m.key)) return false;
    m.value = "1";
    if (take('=') && !(next_is('(') ? take_list(m) : take_item(m))) return false;
    return take_parameters();
  }

  bool take_parameters() {
    while (take(';')) {
      take_while(is_space);
      member dropped;
      if (!take_key(dropped.key)) return false;
      if (take('=') && !take_item(dropped)) return false;
    }
    return true;
  }

  bool take_list(member& m) {
    const std::string_view from = rest_;
    take('(');
    take_while(is_space);
    while (!next_is(')')) {
      member dropped;
      if (!take_item(dropped) || !take_parameters()) return false;
      if (!next_is(')') && take_while(is_space).empty()) return false;
    }
    take(')');
    m.kind = item_kind::list;
    m.value = from.substr(1, from.size() - rest_.size() - 2);
    return true;
  }

  bool take_item(member& m) {
    if (rest_.empty()) return false;
    const char first = rest_.front();
    if (first == '-' || is_digit(first)) return take_number(m);
    if (first == '"') return take_string(m);
    if (first == ':') return take_bytes(m);
    if (first == '?') return take_boolean(m);
    if (!is_alpha(first) && first != '*') return false;
    m.kind = item_kind::token;
    m.value = take_while(is_token_part);
    return true;
  }

  // Up to 15 digits, or up to 12 and 1 to 3 behind the point.
  bool take_number(member& m) {
    const std::string_view from = rest_;
    take('-');
    const std::size_t whole = take_while(is_digit).size();
    m.kind = item_kind::integer;
    std::size_t whole_max = 15;
    if (take('.')) {
      m.kind = item_kind::decimal;
      whole_max = 12;
      const std::size_t fraction = take_while(is_digit).size();
      if (fraction < 1 || fraction > 3) return false;
    }
    m.value = from.substr(0, from.size() - rest_.size());
    return whole >= 1 && whole <= whole_max;
  }

  bool take_string(member& m) {
    take('"');
    const std::string_view from = rest_;
    while (!rest_.empty() && !next_is('"')) {
      const bool escape = take('\\');
      if (rest_.empty() || !is_printable(rest_.front())) return false;
      if (escape && !is_one_of(rest_.front(), "\"\\")) return false;
      rest_.remove_prefix(1);
    }
    m.kind = item_kind::string;
    m.value = from.substr(0, from.size() - rest_.size());
    return take('"');
  }

  bool take_bytes(member& m) {
    take(':');
    m.kind = item_kind::bytes;
    m.value = take_while(is_base64);
    return take(':');
  }

  bool take_boolean(member& m) {
    take('?');
    m.kind = item_kind::boolean;
    m.value = rest_.substr(0, 1);
    return take('0') || take('1');
  }

  std::string_view rest_;
};

}  // namespace

std::optional<std::vector<member>> parse_dictionary(std::string_view field) {
  std::vector<member> members;
  if (!scanner(field).take_dictionary(members)) return std::nullopt;
  return members;
}

}  // namespace sluiced
