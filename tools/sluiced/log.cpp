#include "log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

namespace sluiced {

void print_line(std::FILE* to, std::string_view text) noexcept {
  try {
    const std::string line = fmt::format("{}\n", text);
    static_cast<void>(std::fwrite(line.data(), 1, line.size(), to));
    static_cast<void>(std::fflush(to));
  } catch (const std::exception&) {  // out of memory: the line is lost, the server goes on
  }
}

void say(std::string_view text) noexcept {
  try {
    print_line(stderr, fmt::format("sluiced: {}", text));
  } catch (const std::exception&) {
  }
}

// A row that was never said is due at once.
rare_log::row& rare_log::row_of(std::string_view kind) {
  const auto known = std::ranges::find(rows_, kind, &row::kind);
  if (known != rows_.end()) return *known;
  if (rows_.size() == kinds_max) rows_.erase(std::ranges::min_element(rows_, {}, &row::said));
  return rows_.emplace_back(std::string(kind), clock::time_point::min());
}

std::optional<std::uint64_t> rare_log::due(std::string_view kind, clock::time_point now) {
  row& of = row_of(kind);
  const bool said = of.said != clock::time_point::min();
  if (said && now - of.said < interval) {
    ++of.kept_back;
    return std::nullopt;
  }
  of.said = now;
  return std::exchange(of.kept_back, 0);
}

void rare_log::say(std::string_view kind, std::string_view text) {
  const std::optional<std::uint64_t> kept_back = due(kind, clock::now());
  if (!kept_back) return;
  if (*kept_back == 0)
    sluiced::say(text);
  else
    sluiced::say(fmt::format("{} (and {} more like it since the last line)", text, *kept_back));
}

}  // namespace sluiced
