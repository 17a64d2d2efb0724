// From the request-target of RFC 9112 to a path beneath the root.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "refusal.hpp"

namespace sluiced {

struct target {
  std::string path;  // decoded, relative to the root, without slashes at its ends; "" is the root
  bool directory = false;  // the root, or a trailing slash: names a directory, never a file
  bool reserved = false;   // beneath /.sluice/: pages of the server, never a file
};

// Accepts the origin form ("/a/b?query") and the absolute form ("http://host/a/b"). The query is
// ignored. Refusals: 400 for what is no request-target or has a bad percent escape, 403 for a name
// that is not allowed, 414 for a path longer than the kernel takes.
[[nodiscard]] std::expected<target, refusal> parse_target(std::string_view request_target);

struct split_path {
  std::string parent;  // "" is the root
  std::string name;
};
// "a/b/c" -> {"a/b", "c"}.
[[nodiscard]] split_path split_last(std::string_view path);

// The path as the origin form, percent-encoded: for Location.
[[nodiscard]] std::string encode_path(std::string_view path);

}  // namespace sluiced
