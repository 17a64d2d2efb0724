// Our receiver of the case framed, a mode of `sluice-bench serve`.
#pragma once

#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"

namespace bench {

struct frame_service {
  sluice::engine* engine = nullptr;
  sluice::directory* home = nullptr;
  bool stores = false;  // else payloads are given back as they come
  bool direct = false;  // stored around the page cache
  bool check = false;   // look at every byte: not for measuring
};

// One connection of bench-peers/frame_wire.hpp, answered; stored as obj-CONNECTION-0.
sluice::task<void> receive_frames(const frame_service& s, sluice::stream peer, unsigned connection);

}  // namespace bench
