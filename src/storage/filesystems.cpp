#include "storage/filesystems.hpp"

#include <algorithm>

namespace sluice {
namespace {

// More mounts, or subvolumes of btrfs, than an engine serves; one that was forgotten is asked
// again.
constexpr std::size_t kept_max = 128;

}  // namespace

std::optional<kernel::filesystem_kind> filesystems::find(const kernel::inode_info& of) const {
  const auto known = std::ranges::find_if(seen_, [&of](const entry& e) { return e.is_of(of); });
  if (known == seen_.end()) return std::nullopt;
  return known->kind;
}

// One that could not be asked is asked again.
void filesystems::learn(const kernel::inode_info& of, kernel::filesystem_kind kind) {
  if (kind.magic == 0 || find(of)) return;
  const entry made{of.mount, of.device, of.attributes, kind};
  if (seen_.size() < kept_max) {
    seen_.push_back(made);
  } else {
    seen_[oldest_] = made;
    oldest_ = (oldest_ + 1) % kept_max;
  }
}

}  // namespace sluice
