// What one shard has counted of HTTP. The names are rows of the library's counter table; the
// library cannot know their values, so the metrics page takes them from here.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace sluiced {

class tally {
 public:
  // One writer, the shard's thread; the metrics page of another shard may read at any time. Each
  // value stands for itself, so no order between them is needed: relaxed.
  using value = std::atomic<std::uint64_t>;

  value connections{0};
  value connections_open{0};
  value requests{0};
  value uploads_aborted{0};
  value timeouts{0};
  value serving{0};  // of the open ones, those within the limit

  static void add(value& v) { v.fetch_add(1, std::memory_order_relaxed); }
  static void subtract(value& v) { v.fetch_sub(1, std::memory_order_relaxed); }
  [[nodiscard]] static std::uint64_t get(const value& v) {
    return v.load(std::memory_order_relaxed);
  }

  void answered(int status) {
    const auto kind = static_cast<std::size_t>(status / 100);
    if (kind >= 2 && kind <= 5) add(responses_[kind - 2]);
  }

  // That answer could not be sent; another one takes its place.
  void not_answered(int status) {
    const auto kind = static_cast<std::size_t>(status / 100);
    if (kind >= 2 && kind <= 5) subtract(responses_[kind - 2]);
  }

  // Nothing for a name that is not of HTTP.
  [[nodiscard]] std::optional<std::uint64_t> find(std::string_view name) const {
    const std::array<std::pair<std::string_view, const value*>, 9> rows = {{
        {"sluice.http.connections", &connections},
        {"sluice.http.connections_open", &connections_open},
        {"sluice.http.requests", &requests},
        {"sluice.http.uploads_aborted", &uploads_aborted},
        {"sluice.http.timeouts", &timeouts},
        {"sluice.http.responses_2xx", &responses_[0]},
        {"sluice.http.responses_3xx", &responses_[1]},
        {"sluice.http.responses_4xx", &responses_[2]},
        {"sluice.http.responses_5xx", &responses_[3]},
    }};
    for (const auto& [row_name, row_value] : rows)
      if (row_name == name) return get(*row_value);
    return std::nullopt;
  }

 private:
  std::array<value, 4> responses_{};
};

}  // namespace sluiced
