#include "http_date.hpp"

#include <time.h>

#include <array>

namespace sluiced {

std::string format_http_date(std::int64_t seconds) {
  const time_t when = seconds;
  tm parts{};
  gmtime_r(&when, &parts);
  std::array<char, 64> text;
  // The names of days and months are English: the program never leaves the "C" locale.
  const std::size_t bytes = strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text.data(), bytes);
}

std::optional<std::int64_t> parse_http_date(std::string_view text) {
  constexpr std::array forms = {
      "%a, %d %b %Y %H:%M:%S GMT",  // IMF-fixdate
      "%A, %d-%b-%y %H:%M:%S GMT",  // RFC 850
      "%a %b %d %H:%M:%S %Y",       // asctime
  };
  const std::string terminated(text);
  for (const char* form : forms) {
    tm parts{};
    const char* end = strptime(terminated.c_str(), form, &parts);
    if (end == terminated.c_str() + terminated.size() && !text.empty()) return timegm(&parts);
  }
  return std::nullopt;
}

}  // namespace sluiced
