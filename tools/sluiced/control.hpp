// The control socket of the process: what it is asked is answered for all shards.
#pragma once

#include "shard.hpp"
#include "sluice/control.hpp"

namespace sluiced {

// For a socket that `home` carries, on its thread, while all shards live.
[[nodiscard]] sluice::control_functions control_of(shard& home);

}  // namespace sluiced
