#include "memory/provided_buffers.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "backend/ring_backend.hpp"

namespace sluice {
namespace {

// Large receives cost least, and so do few buffers for each
// (kernel-notes/memcpy_or_system_calls.md).
constexpr std::uint32_t buffer_bytes = 64 << 10;

}  // namespace

provided_buffers::provided_buffers(ring_backend& ring, buffer_class& blocks,
                                   std::uint64_t wanted_bytes)
    : ring_(ring), pool_(blocks), wanted_bytes_(wanted_bytes) {}

provided_buffers::~provided_buffers() { assert(users_ == 0); }

void provided_buffers::take_blocks() {
  const std::size_t block_bytes = pool_.block_bytes();
  const std::size_t most = std::max<std::size_t>(
      std::min<std::size_t>(wanted_bytes_ / block_bytes, pool_.blocks() / 4), 1);
  while (blocks_.size() < most && pool_.free_blocks() * 2 > pool_.blocks()) {
    blocks_.push_back(pool_.try_take());
  }
}

int provided_buffers::refusal() const {
  alignas(64) std::byte nothing[64];
  kernel::buffer_ring one({nothing}, sizeof nothing);
  const int refused = ring_.register_buffers(group, one);
  if (refused == 0) ring_.unregister_buffers(group, one);
  return refused;
}

int provided_buffers::join() {
  if (users_ > 0) {
    ++users_;
    return 0;
  }
  take_blocks();
  const std::uint32_t each = std::min(pool_.block_bytes(), buffer_bytes);
  std::vector<std::byte*> cut;
  for (const lease& block : blocks_) {
    for (std::uint32_t at = 0; at + each <= block.size(); at += each) {
      if (cut.size() < ring_.buffers_max()) cut.push_back(block.data() + at);
    }
  }
  if (cut.empty()) return ENOBUFS;
  links_.resize(cut.size());
  buffers_.emplace(std::move(cut), each);
  const int refusal = ring_.register_buffers(group, *buffers_);
  if (refusal == 0) {
    users_ = 1;
  } else {
    buffers_.reset();
    blocks_.clear();
  }
  return refusal;
}

void provided_buffers::leave() {
  assert(users_ > 0);
  if (--users_ > 0) return;
  ring_.unregister_buffers(group, *buffers_);
  buffers_.reset();
  blocks_.clear();
}

std::size_t provided_buffers::fair_share() const {
  return std::max<std::size_t>(buffers_->buffers() / 8, 1);
}

void provided_buffers::append(buffer_chain& to, std::uint16_t first, std::uint32_t bytes) {
  buffers_->taken(first, bytes, [&](std::uint16_t buffer, std::uint32_t some) {
    links_[buffer] = {some, 0};
    (to.empty() ? to.first_ : links_[to.last_].next) = buffer;
    to.last_ = buffer;
    ++to.count_;
  });
}

std::span<std::byte> provided_buffers::front(const buffer_chain& of) const {
  assert(!of.empty());
  return {buffers_->memory(of.first_), links_[of.first_].bytes};
}

void provided_buffers::give_back_front(buffer_chain& of) {
  assert(!of.empty());
  const std::uint16_t buffer = std::exchange(of.first_, links_[of.first_].next);
  --of.count_;
  buffers_->give(buffer);
}

void provided_buffers::give_back(buffer_chain& all) {
  while (!all.empty()) give_back_front(all);
}

}  // namespace sluice
