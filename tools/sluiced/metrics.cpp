#include "metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "sluice/counters.hpp"

namespace sluiced {

namespace {

std::string metric_name(const sluice::counter_value& counter) {
  std::string name(counter.name);
  std::ranges::replace(name, '.', '_');
  if (counter.kind == sluice::counter_kind::total) name.append("_total");
  return name;
}

}  // namespace

std::string format_metrics(const fleet& all) {
  std::vector<sluice::counter_snapshot> snapshots;
  for (const auto& one : all) snapshots.push_back(one->engine().counters());

  std::string page;
  auto out = std::back_inserter(page);
  std::size_t row = 0;
  for (const sluice::counter_value& counter : sluice::counter_snapshot()) {
    const std::string name = metric_name(counter);
    const bool total = counter.kind == sluice::counter_kind::total;
    fmt::format_to(out, "# HELP {} {}\n# TYPE {} {}\n", name, counter.help, name,
                   total ? "counter" : "gauge");
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::uint64_t counted =
          (snapshots[i].begin() + static_cast<std::ptrdiff_t>(row))->value;
      const std::uint64_t value = all[i]->counts().find(counter.name).value_or(counted);
      fmt::format_to(out, "{}{{engine=\"{}\"}} {}\n", name, i, value);
    }
    ++row;
  }
  return page;
}

}  // namespace sluiced
