// What an engine has counted, as a snapshot to print, add up or compare.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sluice/api.hpp"
#include "sluice/result.hpp"

namespace sluice {

class counter_snapshot;

namespace tuning {
struct counters;
// For the engine: all values now. Any thread, as long as the engine lives.
counter_snapshot snapshot(const counters& source);
}  // namespace tuning

// A total only grows while its engine lives; a gauge is the level at one moment.
enum class counter_kind : std::uint8_t { total, gauge };

// One counter with its value. All views last as long as the program.
struct counter_value {
  std::string_view name;  // "sluice.ops.submitted"
  std::uint64_t value = 0;
  std::string_view unit;  // "operations", "bytes"
  counter_kind kind = counter_kind::total;
  std::string_view help;
};

// All counters, in the order of the documentation. Each value is exact, but they are read one after
// the other while the engine runs: two counters of one event may differ by what happened between.
class SLUICE_API counter_snapshot {
 public:
  using const_iterator = std::vector<counter_value>::const_iterator;

  // Every counter at 0: where adding up engines begins.
  counter_snapshot();

  [[nodiscard]] const_iterator begin() const { return values_.begin(); }
  [[nodiscard]] const_iterator end() const { return values_.end(); }
  [[nodiscard]] std::size_t size() const { return values_.size(); }

  // The value of one counter. Errors: code::unknown_name.
  [[nodiscard]] result<std::uint64_t> get(std::string_view name) const;

  // Adds value by value, gauges too: the sum over several engines.
  counter_snapshot& operator+=(const counter_snapshot& other);

 private:
  friend counter_snapshot tuning::snapshot(const tuning::counters& source);

  std::vector<counter_value> values_;
};

}  // namespace sluice
