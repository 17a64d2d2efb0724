// Conditional requests, RFC 9110 section 13.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sluice/file.hpp"

namespace sluiced {

// What a file's present content is known by.
struct validators {
  std::string etag;                   // strong, with its quotes
  std::int64_t modified_seconds = 0;  // since 1970
};
// The entity tag is made of inode, size and time of the last change: a published file is a new
// inode, so each upload gets a new tag.
[[nodiscard]] validators validators_of(const sluice::file_info& info);

// The conditional fields of a request; "" is a field that was not sent.
struct conditions {
  std::string if_match;
  std::string if_none_match;
  std::string if_modified_since;
  std::string if_unmodified_since;
  std::string if_range;

  // Whether any of them could stop a change.
  [[nodiscard]] bool guards_change() const {
    return !if_match.empty() || !if_none_match.empty() || !if_unmodified_since.empty();
  }
};

enum class verdict : std::uint8_t {
  proceed,
  not_modified,  // 304, for GET and HEAD only
  failed,        // 412
  malformed,     // 400: a list of entity tags that is none
};
enum class request_kind : std::uint8_t { reads, changes };

// Evaluates in the order of section 13.2.2. `current` is null when there is no such file.
[[nodiscard]] verdict evaluate(const conditions& given, request_kind kind,
                               const validators* current);

// Whether a Range field applies: If-Range is absent or names the present content. Its comparison is
// strong, so a date counts only when the content is at least a second old (section 8.8.2.2).
[[nodiscard]] bool range_applies(const conditions& given, const validators& current,
                                 std::int64_t now_seconds);

enum class comparison : std::uint8_t { strong, weak };
enum class tag_match : std::uint8_t { no, yes, malformed };
// Whether a list of entity tags, or "*", holds `etag`.
[[nodiscard]] tag_match match_tags(std::string_view list, std::string_view etag, comparison how);

}  // namespace sluiced
