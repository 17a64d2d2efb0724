// HTTP-date, RFC 9110 section 5.6.7.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluiced {

// Seconds since 1970 as IMF-fixdate: "Sun, 06 Nov 1994 08:49:37 GMT". The form has four digits for
// the year: times before 0 and after 9999 become the first and the last second of those.
[[nodiscard]] std::string format_http_date(std::int64_t seconds);

// Any of the three forms a recipient must take; nothing for other text.
[[nodiscard]] std::optional<std::int64_t> parse_http_date(std::string_view text);

}  // namespace sluiced
