#include "storage/read_ahead.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/assert.hpp"

namespace sluice {

read_ahead::read_ahead(file_state& file, const read_range& range, std::size_t depth,
                       scope* task_scope)
    : file_(file),
      range_(range),
      scope_(task_scope),
      depth_(depth + 1),  // one block is the caller's while `depth` are read
      slots_(std::make_unique<slot[]>(depth + 1)),
      progress_(file.core.loop()),
      next_offset_(range.offset / range.unit * range.unit) {}

read_ahead::~read_ahead() {
  base::require(under_way_ == 0, "reading ahead ended before its reads had");
}

void read_ahead::begin(lease block) {
  slot& s = at(begun_);
  assert(s.read.state() == op_state::idle);
  s.skip = static_cast<std::size_t>(range_.offset + asked_ - next_offset_);
  s.wanted = static_cast<std::size_t>(
      std::min<std::uint64_t>(block.size() - s.skip, range_.length - asked_));
  op_request request = on_file(file_, op_kind::read);
  if (block.buffer_index() >= 0) {
    request.kind = op_kind::read_fixed;
    request.buffer_index = static_cast<std::uint16_t>(block.buffer_index());
  }
  request.data = block.data();
  request.flags = range_.flags;
  request.offset = next_offset_;
  request.length = (s.skip + s.wanted + range_.unit - 1) / range_.unit * range_.unit;
  // A direct read that meets the end of the file cannot be continued at the odd offset it stopped
  // at.
  request.accept_short = range_.unit > 1;
  s.read.request = request;
  s.read.context = &s;
  s.read.complete = ended;
  s.owner = this;
  s.read_bytes = 0;
  s.block = std::move(block);
  next_offset_ += s.skip + s.wanted;
  asked_ += s.wanted;
  ++begun_;
  ++under_way_;
  file_.core.loop().start(s.read, scope_);
}

void read_ahead::begin_more() {
  while (failure_ == 0 && asked_ < range_.length && begun_ - taken_ + 1 < depth_) {
    if (file_.core.blocks().scarce()) return;  // who has nothing to send yet comes first
    lease block = file_.core.blocks().try_take();
    begin(std::move(block));
  }
}

void read_ahead::ended(op& o) noexcept {
  slot& s = *static_cast<slot*>(o.context);
  read_ahead& owner = *s.owner;
  owner.ops_ += o.rounds;
  owner.short_ops_ += o.short_rounds;
  if (o.outcome() > 0) s.read_bytes += static_cast<std::size_t>(o.outcome());
  const bool whole = s.read_bytes >= s.skip + s.wanted;
  // A direct read may stop short inside the file (read(2)); at its end nothing comes, or an odd
  // count.
  if (o.request.accept_short && o.outcome() > 0 && !whole &&
      s.read_bytes % owner.range_.unit == 0) {
    owner.read_rest(s);
    return;
  }
  --owner.under_way_;
  if (owner.failure_ == 0 && !whole) {
    owner.failure_ = o.outcome() < 0 ? static_cast<int>(-o.outcome()) : code::end_of_stream;
  }
  owner.progress_.notify();
}

void read_ahead::read_rest(slot& s) {
  const auto done = static_cast<std::size_t>(s.read.outcome());
  s.read.request.data = static_cast<std::byte*>(s.read.request.data) + done;
  s.read.request.offset += done;
  s.read.request.length -= done;
  ++short_ops_;
  file_.core.loop().start(s.read, scope_);
}

bool read_ahead::next_is_ready() const {
  return slots_[taken_ % depth_].read.state() == op_state::idle;
}

std::span<const std::byte> read_ahead::pop() {
  assert(begun_ > taken_ && next_is_ready());
  if (failure_ != 0) return {};
  give_back();
  slot& s = at(taken_);
  ++taken_;
  handed_ += s.wanted;
  return {s.block.data() + s.skip, s.wanted};
}

task<void> read_ahead::drained() {
  progress_.forget();
  while (under_way_ > 0) co_await progress_.notified_shielded();
}

}  // namespace sluice
