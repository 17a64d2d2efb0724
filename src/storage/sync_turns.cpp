#include "storage/sync_turns.hpp"

#include <algorithm>

namespace sluice {

sync_turns& sync_turns::of_process() {
  static sync_turns all;
  return all;
}

bool sync_turns::is_free(const key& what) const {
  return std::ranges::find(taken_, what) == taken_.end();
}

bool sync_turns::try_begin(const key& what) {
  const std::lock_guard lock(mutex_);
  if (!is_free(what)) return false;
  taken_.push_back(what);
  return true;
}

void sync_turns::begin(const key& what) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return is_free(what); });
  taken_.push_back(what);
}

void sync_turns::end(const key& what) {
  {
    const std::lock_guard lock(mutex_);
    std::erase(taken_, what);
  }
  freed_.notify_all();
}

}  // namespace sluice
