// Boost.Beast's parser without its I/O: it is given one complete head. What it lets pass and RFC
// 9112 section 6 does not is refused here.
#include "request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <limits>
#include <string_view>

namespace sluiced {

namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

std::string_view view(string_view text) { return {text.data(), text.size()}; }

// Several lines of one list field are one list (RFC 9110 section 5.3).
void append_to_list(std::string& list, std::string_view value) {
  if (!list.empty()) list.append(", ");
  list.append(value);
}

void append_to_list(std::optional<std::string>& list, std::string_view value) {
  append_to_list(list ? *list : list.emplace(), value);
}

bool is_word(std::string_view text, std::string_view word) {
  return boost::beast::iequals({text.data(), text.size()}, {word.data(), word.size()});
}

class head_parser : public http::basic_parser<true> {
 public:
  explicit head_parser(std::span<const std::byte> head) : head_(head) {
    header_limit(static_cast<std::uint32_t>(head.size() + 1));
    // Not boost::none: the comparison in Beast 1.74 takes that for a limit below every length.
    body_limit(std::numeric_limits<std::uint64_t>::max());
  }

  request made;
  std::string transfer_encoding;
  std::string expect;
  std::string te;
  unsigned hosts = 0;
  unsigned content_lengths = 0;
  bool folded = false;
  bool empty_condition = false;
  bool empty_coding = false;

 private:
  void on_request_impl(http::verb verb, string_view method_text, string_view target, int version,
                       error_code&) override {
    made.method = known_method(verb);
    made.method_name = view(method_text);
    made.target = view(target);
    made.http_1_1 = version == 11;
  }

  static method known_method(http::verb verb) {
    switch (verb) {
      case http::verb::get: return method::get;
      case http::verb::head: return method::head;
      case http::verb::put: return method::put;
      case http::verb::delete_: return method::remove;
      case http::verb::options: return method::options;
      default: return method::other;
    }
  }

  // A value that does not lie in the head was put together from folded lines.
  bool lies_in_head(string_view value) const {
    const auto* begin = reinterpret_cast<const char*>(head_.data());
    return value.empty() || (value.data() >= begin && value.data() < begin + head_.size());
  }

  void on_field_impl(http::field name, string_view name_text, string_view value,
                     error_code&) override {
    if (!lies_in_head(value)) folded = true;
    switch (name) {
      case http::field::host: ++hosts; break;
      case http::field::content_length: ++content_lengths; break;
      case http::field::transfer_encoding:
        if (value.empty()) empty_coding = true;
        append_to_list(transfer_encoding, view(value));
        break;
      case http::field::expect: append_to_list(expect, view(value)); break;
      case http::field::te: append_to_list(te, view(value)); break;
      case http::field::content_range: made.partial = true; break;
      case http::field::range: append_to_list(made.range, view(value)); break;
      case http::field::if_match: condition(made.when.if_match, value); break;
      case http::field::if_none_match: condition(made.when.if_none_match, value); break;
      case http::field::if_modified_since: made.when.if_modified_since = view(value); break;
      case http::field::if_unmodified_since: made.when.if_unmodified_since = view(value); break;
      case http::field::if_range: made.when.if_range = view(value); break;
      default: other_field(view(name_text), view(value)); break;
    }
  }

  // Fields that Beast has no name for.
  void other_field(std::string_view name, std::string_view value) {
    if (is_word(name, "Content-Digest")) append_to_list(made.content_digest, value);
    if (is_word(name, "Repr-Digest")) append_to_list(made.repr_digest, value);
    if (is_word(name, "Want-Repr-Digest")) append_to_list(made.want_repr_digest, value);
  }

  void condition(std::string& list, string_view value) {
    if (value.empty()) empty_condition = true;
    append_to_list(list, view(value));
  }

  // The parser stops after the head; the rest of its interface is never called.
  void on_response_impl(int, string_view, int, error_code&) override {}
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) override {}
  std::size_t on_body_impl(string_view body, error_code&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, string_view, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, string_view body, error_code&) override {
    return body.size();
  }
  void on_finish_impl(error_code&) override {}

  std::span<const std::byte> head_;
};

// Whether the request-line ends in a version, or is broken before it.
bool names_version(std::span<const std::byte> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  const std::string_view line = text.substr(0, text.find("\r\n"));
  return line.substr(line.rfind(' ') + 1).starts_with("HTTP/") &&
         std::ranges::count(line, ' ') == 2;
}

refusal explain(const error_code& problem, std::span<const std::byte> head) {
  if (problem == http::error::bad_version && names_version(head))
    return {505, "this server speaks HTTP/1.1 and HTTP/1.0"};
  if (problem == http::error::bad_content_length)
    return {400,
            "Content-Length is not one decimal number, or stands beside Transfer-Encoding; "
            "send exactly one of them"};
  if (problem == http::error::bad_transfer_encoding)
    return {400,
            "Transfer-Encoding is sent twice or beside Content-Length; send exactly one of "
            "them"};
  return {400, fmt::format("the request head is malformed: {}", problem.message())};
}

// What decides where the body ends must be beyond doubt: two parties that read it differently are
// request smuggling (RFC 9112 section 11.2).
std::expected<void, refusal> check_framing(const head_parser& parsed) {
  const std::string& coding = parsed.transfer_encoding;
  // Beast and others take it for none at all, some for a coding that goes before Content-Length.
  if (parsed.empty_coding)
    return refuse(400, "Transfer-Encoding is empty; send chunked, or leave it out");
  if (coding.empty()) return {};
  if (parsed.content_lengths > 0)
    return refuse(400, "the request has both Content-Length and Transfer-Encoding; send one");
  if (!parsed.made.http_1_1)
    return refuse(400, "HTTP/1.0 has no Transfer-Encoding; send HTTP/1.1 or Content-Length");
  if (!is_word(coding, "chunked"))
    return refuse(501, fmt::format("the transfer coding \"{}\" is not known here; send chunked or "
                                   "Content-Length",
                                   coding));
  return {};
}

std::expected<void, refusal> check_fields(const head_parser& parsed) {
  if (parsed.folded)
    return refuse(400,
                  "a field goes on over several lines; write it on one (RFC 9112 section "
                  "5.2)");
  if (parsed.hosts > 1 || (parsed.hosts == 0 && parsed.made.http_1_1))
    return refuse(400, "HTTP/1.1 needs exactly one Host field");
  if (parsed.empty_condition)
    return refuse(400, "If-Match or If-None-Match is empty; give an entity tag, or leave it out");
  return {};
}

// Expect: 100-continue means nothing in HTTP/1.0 (RFC 9110 section 10.1.1).
std::expected<bool, refusal> expects_continue(const head_parser& parsed) {
  if (parsed.expect.empty() || !parsed.made.http_1_1) return false;
  if (is_word(parsed.expect, "100-continue")) return true;
  return refuse(417, "the only expectation known here is 100-continue");
}

// Of a list of codings with weights the member without any that says trailers.
bool takes_trailers(std::string_view te) {
  while (!te.empty()) {
    const std::size_t comma = te.find(',');
    std::string_view member = te.substr(0, comma);
    te = comma == std::string_view::npos ? std::string_view() : te.substr(comma + 1);
    while (!member.empty() && (member.front() == ' ' || member.front() == '\t'))
      member.remove_prefix(1);
    while (!member.empty() && (member.back() == ' ' || member.back() == '\t'))
      member.remove_suffix(1);
    if (is_word(member, "trailers")) return true;
  }
  return false;
}

}  // namespace

std::expected<request, refusal> parse_request(std::span<const std::byte> head) {
  head_parser parser(head);
  error_code problem;
  parser.put(boost::asio::const_buffer(head.data(), head.size()), problem);
  if (problem) return std::unexpected(explain(problem, head));
  if (!parser.is_header_done()) return refuse(400, "the request head is malformed");

  for (const auto check : {check_framing, check_fields}) {
    const std::expected<void, refusal> passed = check(parser);
    if (!passed) return std::unexpected(passed.error());
  }
  const std::expected<bool, refusal> expected = expects_continue(parser);
  if (!expected) return std::unexpected(expected.error());

  request made = std::move(parser.made);
  made.expects_continue = *expected;
  made.takes_trailers = made.http_1_1 && takes_trailers(parser.te);
  made.keep_alive = parser.keep_alive();
  made.chunked = parser.chunked();
  if (const auto length = parser.content_length()) made.content_length = *length;
  return made;
}

}  // namespace sluiced
