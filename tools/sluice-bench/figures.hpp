// Figures of one run by name, and what several runs say together.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bench {

// A figure that this machine cannot count is absent from the value (std::nullopt): null in JSON and
// n/a in print, never 0. A dot in the name is a level in JSON: "cpu_s_per_gib.process".
using figures = std::map<std::string, std::optional<double>>;

// The value of one figure, nothing where it is unknown or not counted.
[[nodiscard]] std::optional<double> value(const figures& of, const std::string& name);

// Linear between neighbours, as numpy's default; `sorted` must not be empty, 0 <= q <= 1.
[[nodiscard]] double quantile(const std::vector<double>& sorted, double q);

[[nodiscard]] figures median(const std::vector<figures>& runs);
// Third quartile minus first; absent below two runs, which have no spread.
[[nodiscard]] figures interquartile_range(const std::vector<figures>& runs);

// a / b, nothing where either is missing or b is 0.
[[nodiscard]] std::optional<double> ratio(std::optional<double> a, std::optional<double> b);

}  // namespace bench
