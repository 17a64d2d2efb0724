#include "blame.hpp"

#include <utility>

namespace bt {

const std::string* blame::ban_of(const std::string& origin) const {
  const auto at = bans_.find(origin);
  return at == bans_.end() ? nullptr : &at->second;
}

const std::string* blame::ban_of(source_id id) const {
  const auto at = origins_.find(id);
  return at == origins_.end() ? nullptr : ban_of(at->second);
}

void blame::ban(source_id id, std::string why) {
  const auto at = origins_.find(id);
  if (at != origins_.end()) bans_.emplace(at->second, std::move(why));
}

}  // namespace bt
