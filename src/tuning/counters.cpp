// counters.def as snapshots.
#include "sluice/counters.hpp"

#include <algorithm>

#include "tuning/counter_values.hpp"

namespace sluice {

counter_snapshot::counter_snapshot()
    : values_{
#define SLUICE_COUNTER(group, field, name, kind, unit, help) \
  {name, 0, unit, counter_kind::kind, help},
#include "tuning/counters.def"
      } {
}

result<std::uint64_t> counter_snapshot::get(std::string_view name) const {
  const auto found = std::ranges::find(values_, name, &counter_value::name);
  if (found == values_.end()) return fail(code::unknown_name, "get");
  return found->value;
}

counter_snapshot& counter_snapshot::operator+=(const counter_snapshot& other) {
  const std::size_t both =
      std::min(values_.size(), other.values_.size());  // a moved-from one is empty
  for (std::size_t i = 0; i < both; ++i) values_[i].value += other.values_[i].value;
  return *this;
}

counter_snapshot tuning::snapshot(const counters& source) {
  counter_snapshot all;
  all.values_ = {
#define SLUICE_COUNTER(group, field, name, kind, unit, help) \
  {name, source.group.field.get(), unit, counter_kind::kind, help},
#include "tuning/counters.def"
  };
  return all;
}

}  // namespace sluice
