#include "figures.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace bench {

namespace {

// Every figure's values over the runs, sorted; those no run could count stay with an empty list.
std::map<std::string, std::vector<double>> by_name(const std::vector<figures>& runs) {
  std::map<std::string, std::vector<double>> all;
  for (const figures& run : runs) {
    for (const auto& [name, counted] : run) {
      std::vector<double>& values = all[name];
      if (counted) values.push_back(*counted);
    }
  }
  for (auto& [name, values] : all) std::sort(values.begin(), values.end());
  return all;
}

}  // namespace

std::optional<double> value(const figures& of, const std::string& name) {
  const auto found = of.find(name);
  return found == of.end() ? std::nullopt : found->second;
}

double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - static_cast<double>(below));
}

figures median(const std::vector<figures>& runs) {
  figures middle;
  for (const auto& [name, values] : by_name(runs)) {
    middle[name] = values.empty() ? std::nullopt : std::optional(quantile(values, 0.5));
  }
  return middle;
}

figures interquartile_range(const std::vector<figures>& runs) {
  figures spread;
  for (const auto& [name, values] : by_name(runs)) {
    spread[name] = values.size() < 2
                       ? std::nullopt
                       : std::optional(quantile(values, 0.75) - quantile(values, 0.25));
  }
  return spread;
}

std::optional<double> ratio(std::optional<double> a, std::optional<double> b) {
  if (!a || !b || *b == 0) return std::nullopt;
  return *a / *b;
}

}  // namespace bench
