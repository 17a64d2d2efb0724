#include "storage/new_directories.hpp"

namespace sluice {

new_directories& new_directories::of_process() {
  static new_directories all;
  return all;
}

void new_directories::begin(const kernel::inode_info& parent) {
  const std::lock_guard lock(mutex_);
  ++parents_[key_of(parent)].under_way;
  count_.store(parents_.size(), std::memory_order_release);
}

void new_directories::end(const kernel::inode_info& parent, making how) {
  const std::lock_guard lock(mutex_);
  const auto found = parents_.find(key_of(parent));
  changes& there = found->second;
  --there.under_way;
  if (how == making::perhaps_made) {
    there.last = ++ended_;
  } else if (there.under_way == 0 && there.last == 0) {
    parents_.erase(found);
    count_.store(parents_.size(), std::memory_order_release);
  }
}

std::optional<std::uint64_t> new_directories::unsynced_in(const kernel::inode_info& parent) const {
  const std::lock_guard lock(mutex_);
  if (!parents_.contains(key_of(parent))) return std::nullopt;
  return ended_;
}

// One that is still being made when a sync begins may be seen by others before it has ended.
void new_directories::synced(const kernel::inode_info& parent, std::uint64_t begun) {
  const std::lock_guard lock(mutex_);
  const auto found = parents_.find(key_of(parent));
  if (found == parents_.end()) return;
  if (found->second.under_way > 0 || found->second.last > begun) return;
  parents_.erase(found);
  count_.store(parents_.size(), std::memory_order_release);
}

}  // namespace sluice
