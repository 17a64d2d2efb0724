#include "target.hpp"

#include <algorithm>
#include <climits>
#include <optional>

namespace sluiced {

namespace {

constexpr std::size_t name_bytes_max = 255;  // NAME_MAX of Linux filesystems
constexpr std::string_view reserved_name = ".sluice";
// How the library names an upload under way where the filesystem has no unnamed files.
constexpr std::string_view temporary_prefix = ".sluice-tmp-";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(), [](char wanted, char given) {
           return wanted == (given >= 'A' && given <= 'Z' ? given + ('a' - 'A') : given);
         });
}

// "http://host/a?b" -> "/a?b". The authority is not looked at: there is one root.
std::string_view without_authority(std::string_view text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!starts_with_ignoring_case(text, scheme)) continue;
    text.remove_prefix(scheme.size());
    const std::size_t path = text.find_first_of("/?#");
    if (path == text.npos) return "/";
    return text[path] == '/' ? text.substr(path) : std::string_view("/");
  }
  return text;
}

// Decodes one segment, once: what an escape yields is never an escape or a separator again.
std::expected<std::string, refusal> decode_segment(std::string_view segment) {
  std::string decoded;
  decoded.reserve(segment.size());
  for (std::size_t i = 0; i < segment.size(); ++i) {
    if (segment[i] != '%') {
      decoded.push_back(segment[i]);
      continue;
    }
    const int high = i + 2 < segment.size() ? hex_value(segment[i + 1]) : -1;
    const int low = i + 2 < segment.size() ? hex_value(segment[i + 2]) : -1;
    if (high < 0 || low < 0)
      return refuse(400,
                    "the path has a % that two hexadecimal digits do not follow; write % as "
                    "%25");
    decoded.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return decoded;
}

std::optional<refusal> check_name(std::string_view name) {
  const auto forbidden = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f || c == '\\' || c == '/';
  };
  if (name == "." || name == "..")
    return refusal{403, "the path has a . or .. segment; name the file by its path from the root"};
  if (std::ranges::any_of(name, forbidden))
    return refusal{403,
                   "a name in the path holds a slash, a backslash, NUL or another control "
                   "byte; choose a name without it"};
  if (name.starts_with(temporary_prefix))
    return refusal{403, "names that begin with .sluice-tmp- are uploads under way; choose another"};
  if (name.size() > name_bytes_max)
    return refusal{403, "a name in the path is longer than 255 bytes; choose a shorter one"};
  return std::nullopt;
}

}  // namespace

std::expected<target, refusal> parse_target(std::string_view request_target) {
  std::string_view rest = without_authority(request_target);
  if (rest.find('#') != rest.npos)
    return refuse(400, "the request-target has a fragment (#); write # as %23 or leave it out");
  rest = rest.substr(0, rest.find('?'));
  if (!rest.starts_with('/'))
    return refuse(400, "the request-target is neither /path nor http://host/path");
  rest.remove_prefix(1);

  target found;
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    const std::expected<std::string, refusal> name = decode_segment(rest.substr(0, slash));
    if (!name) return std::unexpected(name.error());
    if (name->empty())
      return refuse(403, "the path has an empty segment (//); write single slashes");
    if (std::optional<refusal> bad = check_name(*name)) return std::unexpected(std::move(*bad));
    if (!found.path.empty()) found.path.push_back('/');
    found.path.append(*name);
    found.directory = slash != rest.npos && slash + 1 == rest.size();
    rest.remove_prefix(slash == rest.npos ? rest.size() : slash + 1);
  }
  if (found.path.size() >= PATH_MAX)
    return refuse(414, "the path is longer than 4095 bytes; choose a shorter one");
  if (found.path.empty()) found.directory = true;
  const std::string_view first = std::string_view(found.path).substr(0, found.path.find('/'));
  found.reserved = first == reserved_name;
  return found;
}

split_path split_last(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return {std::string(), std::string(path)};
  return {std::string(path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

std::string encode_path(std::string_view path) {
  constexpr std::string_view plain = "-._~!$&'()*+,;=:@/";  // RFC 3986: pchar, and the separator
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string encoded = "/";
  for (const char c : path) {
    const bool alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (alphanumeric || plain.find(c) != plain.npos) {
      encoded.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded.push_back('%');
    encoded.push_back(digits[byte >> 4]);
    encoded.push_back(digits[byte & 15]);
  }
  return encoded;
}

}  // namespace sluiced
