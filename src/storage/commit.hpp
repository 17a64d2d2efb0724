// Making completed writes durable.
#pragma once

#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine_core;

// fsync of a directory: makes its names durable. code::durability_unknown when the kernel says no.
[[nodiscard]] task<result<void>> sync_directory(engine_core& core, int directory_fd);

}  // namespace sluice
