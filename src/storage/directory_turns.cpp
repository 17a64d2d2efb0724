#include "storage/directory_turns.hpp"

#include <algorithm>

namespace sluice {

directory_turns& directory_turns::of_process() {
  static directory_turns all;
  return all;
}

bool directory_turns::is_free(const key& directory) const {
  return std::ranges::find(taken_, directory) == taken_.end();
}

bool directory_turns::try_begin(const key& directory) {
  const std::lock_guard lock(mutex_);
  if (!is_free(directory)) return false;
  taken_.push_back(directory);
  return true;
}

void directory_turns::begin(const key& directory) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return is_free(directory); });
  taken_.push_back(directory);
}

void directory_turns::end(const key& directory) {
  {
    const std::lock_guard lock(mutex_);
    std::erase(taken_, directory);
  }
  freed_.notify_all();
}

}  // namespace sluice
