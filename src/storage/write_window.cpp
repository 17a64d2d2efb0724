#include "storage/write_window.hpp"

#include <cassert>
#include <utility>

#include "base/assert.hpp"

namespace sluice {

write_window::write_window(file_state& file, std::size_t depth, scope* task_scope)
    : file_(file),
      scope_(task_scope),
      depth_(depth),
      slots_(std::make_unique<slot[]>(depth)),
      progress_(file.core.loop()) {
  free_.reserve(depth);
  for (std::size_t i = 0; i < depth; ++i) {
    slots_[i].window = this;
    slots_[i].write.context = &slots_[i];
    slots_[i].write.complete = written;
    free_.push_back(&slots_[i]);
  }
}

write_window::~write_window() {
  base::require(free_.size() == depth_, "a window of writes ended before they had");
}

write_window::slot& write_window::take_slot(lease block) {
  assert(has_room());
  slot& s = *free_.back();
  free_.pop_back();
  s.block = std::move(block);
  return s;
}

void write_window::begin(slot& s, op_request request) {
  s.write.request = request;
  ++ops_;
  file_.core.loop().start(s.write, scope_);
}

void write_window::write(lease block, std::size_t bytes, std::uint64_t offset) {
  op_request request = on_file(file_, op_kind::write);
  if (block.buffer_index() >= 0) {
    request.kind = op_kind::write_fixed;
    request.buffer_index = static_cast<std::uint16_t>(block.buffer_index());
  }
  request.data = block.data();
  request.length = bytes;
  request.offset = offset;
  begin(take_slot(std::move(block)), request);
}

void write_window::write(lease block, std::span<const iovec> parts, std::uint64_t offset) {
  slot& s = take_slot(std::move(block));
  s.parts.assign(parts.begin(), parts.end());
  op_request request = on_file(file_, op_kind::writev);
  request.data = s.parts.data();
  request.length = s.parts.size();
  request.offset = offset;
  begin(s, request);
}

void write_window::written(op& o) noexcept {
  slot& s = *static_cast<slot*>(o.context);
  write_window& window = *s.window;
  if (o.outcome() >= 0) {
    window.bytes_written_ += static_cast<std::uint64_t>(o.outcome());
  } else if (window.failure_ == 0) {
    window.failure_ = static_cast<int>(-o.outcome());
  }
  s.block.reset();
  window.free_.push_back(&s);
  window.progress_.notify();
}

task<result<void>> write_window::drained() {
  progress_.forget();
  while (free_.size() < depth_) co_await progress_.notified_shielded();
  if (failure_ != 0) co_return fail(failure_, "write", "receive_to_file");
  co_return result<void>{};
}

}  // namespace sluice
