#include "blame.hpp"

#include <algorithm>

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

void blame::remember(std::uint32_t piece, std::vector<source_id> senders,
                     std::vector<sha1_digest> sent) {
  blocks_ += sent.size();
  attempts_.push_back({piece, std::move(senders), std::move(sent)});
  while (blocks_ > blocks_max) {
    blocks_ -= attempts_.front().sent.size();
    attempts_.erase(attempts_.begin());
  }
}

bool blame::remembers(std::uint32_t piece) const {
  return std::ranges::find(attempts_, piece, &attempt::piece) != attempts_.end();
}

std::vector<source_id> blame::compare(std::uint32_t piece, std::span<const sha1_digest> right) {
  std::vector<source_id> guilty;
  const auto at = std::ranges::find(attempts_, piece, &attempt::piece);
  if (at == attempts_.end()) return guilty;
  for (std::size_t i = 0; i < right.size(); ++i) {
    const source_id sender = at->senders[i];
    if (at->sent[i] == right[i] || std::ranges::find(guilty, sender) != guilty.end()) continue;
    guilty.push_back(sender);
  }
  blocks_ -= at->sent.size();
  attempts_.erase(at);
  return guilty;
}

}  // namespace bt
