#include "path_locks.hpp"

#include <cassert>

namespace sluiced {

bool path_locks::take_or_queue(turn& wanted) {
  const std::lock_guard lock(guard_);
  const auto [place, free] = held_.try_emplace(wanted.path_);
  if (!free) place->second.push_back(wanted);
  return free;
}

std::optional<path_locks::hold> path_locks::try_hold(std::string path) {
  const std::lock_guard lock(guard_);
  if (!held_.try_emplace(path).second) return std::nullopt;
  return hold(*this, std::move(path));
}

// The path goes from hand to hand: it stays in the map while anybody waits for it.
void path_locks::release(const std::string& path) {
  const std::lock_guard lock(guard_);
  const auto place = held_.find(path);
  assert(place != held_.end());
  if (place->second.empty()) {
    held_.erase(place);
    return;
  }
  turn& next = place->second.front();
  place->second.pop_front();
  next.home_.post([frame = next.frame_] { frame.resume(); });
}

}  // namespace sluiced
