#include "bencode.hpp"

#include <array>
#include <charconv>
#include <utility>

namespace bt {

// Goes over the input once; what is open at a time stands on a stack of its own.
class bencode_parser {
 public:
  explicit bencode_parser(std::string_view input) : input_(input) {}

  std::expected<bencode, bencode_failure> run() {
    do {
      if (!step()) return std::unexpected(failure_);
    } while (depth_ > 0);
    if (at_ != input_.size()) return std::unexpected(bencode_failure{at_, "bytes behind the end"});
    return std::move(document_);
  }

 private:
  struct open_value {
    std::uint32_t index = 0;
    std::size_t begin = 0;
    bool is_dictionary = false;
    bool wants_key = false;
    bool has_key = false;
    std::string_view last_key;
  };

  bool refuse(const char* what) {
    failure_ = {at_, what};
    return false;
  }

  // One value, the beginning of one, or the end of the one that is open.
  bool step() {
    if (at_ == input_.size()) return refuse("ends in the middle");
    const char c = input_[at_];
    open_value* in = depth_ == 0 ? nullptr : &open_[depth_ - 1];
    if (c == 'e' && in != nullptr) return close(*in);
    const bool is_text = c >= '0' && c <= '9';
    if (in != nullptr && in->wants_key && !is_text) return refuse("a key must be text");
    if (document_.nodes_.size() == bencode::values_max) return refuse("too many values");
    if (is_text) return take_text(in);
    if (c == 'i') return take_integer(in);
    if (c == 'l' || c == 'd') return open(c == 'd', in);
    return refuse("no value begins like this");
  }

  void member_done(open_value* in) {
    if (in != nullptr && in->is_dictionary) in->wants_key = !in->wants_key;
  }

  void add(bencode_kind kind, std::string_view raw, std::string_view text, std::int64_t integer) {
    const auto past = static_cast<std::uint32_t>(document_.nodes_.size() + 1);
    document_.nodes_.push_back({kind, past, integer, text, raw});
  }

  bool open(bool is_dictionary, open_value* in) {
    if (depth_ == bencode::depth_max) return refuse("too deep");
    member_done(in);  // its value is there once the inner one is closed
    open_[depth_++] = {static_cast<std::uint32_t>(document_.nodes_.size()),
                       at_,
                       is_dictionary,
                       is_dictionary,
                       false,
                       {}};
    add(is_dictionary ? bencode_kind::dictionary : bencode_kind::list, {}, {}, 0);
    ++at_;
    return true;
  }

  bool close(open_value& in) {
    if (in.is_dictionary && !in.wants_key) return refuse("a key without value");
    ++at_;
    bencode::node& node = document_.nodes_[in.index];
    node.past = static_cast<std::uint32_t>(document_.nodes_.size());
    node.raw = input_.substr(in.begin, at_ - in.begin);
    --depth_;
    return true;
  }

  // The number up to `end`, without leading zeros; moves behind `end`.
  bool take_number(char end, std::int64_t& value) {
    const char* begin = input_.data() + at_;
    const char* past = input_.data() + input_.size();
    const auto [stop, problem] = std::from_chars(begin, past, value);
    if (problem == std::errc::result_out_of_range) return refuse("a number beyond 64 bits");
    if (problem != std::errc()) return refuse("a number is missing");
    const std::string_view digits(begin, static_cast<std::size_t>(stop - begin));
    if (digits == "-0" || digits.starts_with("-0")) return refuse("a negative zero");
    if (digits.size() > 1 && digits[0] == '0') return refuse("a leading zero");
    at_ += digits.size();
    if (at_ == input_.size()) return refuse("ends in the middle");
    if (input_[at_] != end) return refuse("a number with something else in it");
    ++at_;
    return true;
  }

  bool take_integer(open_value* in) {
    const std::size_t begin = at_++;
    std::int64_t value = 0;
    if (!take_number('e', value)) return false;
    add(bencode_kind::integer, input_.substr(begin, at_ - begin), {}, value);
    member_done(in);
    return true;
  }

  bool take_text(open_value* in) {
    const std::size_t begin = at_;
    std::int64_t length = 0;
    if (!take_number(':', length)) return false;
    if (static_cast<std::uint64_t>(length) > input_.size() - at_)
      return refuse("text longer than the input");
    const std::string_view text = input_.substr(at_, static_cast<std::size_t>(length));
    if (in != nullptr && in->wants_key) {
      if (in->has_key && text <= in->last_key) return refuse("keys out of order");
      in->last_key = text;
      in->has_key = true;
    }
    at_ += text.size();
    add(bencode_kind::text, input_.substr(begin, at_ - begin), text, 0);
    member_done(in);
    return true;
  }

  std::string_view input_;
  std::size_t at_ = 0;
  bencode document_;
  std::array<open_value, bencode::depth_max> open_;
  std::size_t depth_ = 0;
  bencode_failure failure_;
};

std::expected<bencode, bencode_failure> bencode::parse(std::string_view input) {
  return bencode_parser(input).run();
}

bencode_value bencode::root() const { return {*this, 0}; }

std::optional<std::int64_t> bencode_value::integer() const {
  if (kind() != bencode_kind::integer) return std::nullopt;
  return self().integer;
}

std::optional<std::string_view> bencode_value::text() const {
  if (kind() != bencode_kind::text) return std::nullopt;
  return self().text;
}

std::optional<bencode_value> bencode_value::first() const {
  if (self().past == index_ + 1) return std::nullopt;
  return bencode_value(*document_, index_ + 1);
}

std::optional<bencode_value> bencode_value::next(const bencode_value& of,
                                                 const bencode_value& parent) {
  if (of.self().past >= parent.self().past) return std::nullopt;
  return bencode_value(*of.document_, of.self().past);
}

std::optional<bencode_value> bencode_value::find(std::string_view key) const {
  if (kind() != bencode_kind::dictionary) return std::nullopt;
  for (auto at = first(); at; at = next(*at, *this)) {
    const bool found = at->text() == key;
    at = next(*at, *this);  // a key always has a value
    if (found) return at;
  }
  return std::nullopt;
}

void append_text(std::string& to, std::string_view text) {
  to.append(std::to_string(text.size())).append(":").append(text);
}

void append_integer(std::string& to, std::int64_t number) {
  to.append("i").append(std::to_string(number)).append("e");
}

}  // namespace bt
