// What happens on one connection, from its first byte to its last.
#pragma once

#include "shard.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"

namespace sluiced {

// Serves requests until the peer or the server has had enough. Between requests its frame holds no
// memory of the pool: it waits until there is something to receive.
[[nodiscard]] sluice::task<void> serve_connection(shard& home, sluice::stream peer);

// Tells a connection beyond the limit that there are too many, and ends it.
[[nodiscard]] sluice::task<void> refuse_connection(shard& home, sluice::stream peer);

}  // namespace sluiced
