// The page /.sluice/metrics, in the text format of Prometheus 0.0.4.
#pragma once

#include <string>

#include "shard.hpp"

namespace sluiced {

// Every counter of every engine, one sample per engine. Any shard's thread.
[[nodiscard]] std::string format_metrics(const fleet& all);

}  // namespace sluiced
