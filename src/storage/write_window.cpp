#include "storage/write_window.hpp"

#include <cassert>
#include <utility>

#include "base/assert.hpp"
#include "kernel/page_cache.hpp"
#include "ops/table.hpp"

namespace sluice {

write_window::write_window(file_state& file, std::size_t depth, scope* task_scope,
                           body_check* check)
    : file_(file),
      scope_(task_scope),
      check_(check),
      depth_(depth),
      in_memory_(!file.direct && kernel::is_in_memory(file.fd.get())),
      slots_(std::make_unique<slot[]>(depth)),
      progress_(file.core.loop()) {
  free_.reserve(depth);
  if (check_ != nullptr) unchecked_.reserve(depth);
  for (std::size_t i = 0; i < depth; ++i) {
    slots_[i].window = this;
    slots_[i].work.context = &slots_[i];
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

void write_window::give_back(slot& s) {
  s.block.reset();
  free_.push_back(&s);
  progress_.notify();
}

void write_window::write(lease block, std::size_t bytes, const write_place& place) {
  slot& s = take_slot(std::move(block));
  op_request request = on_file(file_, op_kind::write);
  if (s.block.buffer_index() >= 0) {
    request.kind = op_kind::write_fixed;
    request.buffer_index = static_cast<std::uint16_t>(s.block.buffer_index());
  }
  request.data = s.block.data();
  request.length = bytes + place.padding;
  if (check_ != nullptr) s.parts.assign(1, {s.block.data(), bytes});
  request.route = write_route(file_, in_memory_, request.length);
  begin(s, request, place);
}

void write_window::write(lease block, std::span<const iovec> parts, const write_place& place) {
  slot& s = take_slot(std::move(block));
  s.parts.assign(parts.begin(), parts.end());
  std::uint64_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  op_request request = on_file(file_, op_kind::writev);
  request.route = write_route(file_, in_memory_, bytes);
  request.data = s.parts.data();
  request.length = s.parts.size();
  begin(s, request, place);
}

void write_window::begin(slot& s, const op_request& write, const write_place& place) {
  s.write = write;
  s.write.flags = flags_;
  s.write.offset = place.offset;
  s.ends_body = place.ends_body;
  if (check_ == nullptr) {
    begin_write(s);
    return;
  }
  unchecked_.push_back(&s);
  if (unchecked_.size() == 1) begin_check(s);
}

void write_window::begin_check(slot& s) {
  s.work.request = call_of(judge, &s);
  s.work.complete = checked;
  file_.core.loop().start(s.work, scope_);
}

// On a worker. The verdict is no result of the op: the loop would repeat a call that said EAGAIN,
// and a checksum must not see its bytes twice.
std::int64_t write_window::judge(void* subject) {
  slot& s = *static_cast<slot*>(subject);
  body_check& by = *s.window->check_;
  s.verdict = {};
  for (std::size_t i = 0; i < s.parts.size() && s.verdict; ++i) {
    const iovec& part = s.parts[i];
    if (part.iov_len == 0) continue;
    s.verdict = by.update({static_cast<const std::byte*>(part.iov_base), part.iov_len});
  }
  if (s.verdict && s.ends_body) s.verdict = by.finish();
  return 0;
}

void write_window::checked(op& o) noexcept {
  slot& s = *static_cast<slot*>(o.context);
  write_window& window = *s.window;
  window.unchecked_.erase(window.unchecked_.begin());
  if (o.outcome() < 0) {
    window.fail_with({static_cast<int>(-o.outcome()), "call", "body_check: not begun"});
  } else if (!s.verdict) {
    window.file_.core.counters().receive.refused.add();
    error why = s.verdict.error();
    if (why.code == 0) why.code = code::refused_by_check;  // 0 would pass for no failure
    window.fail_with(why);
  }
  if (window.failure() != 0) {
    window.give_back(s);
    window.drop_unchecked();
    return;
  }
  window.begin_write(s);
  if (!window.unchecked_.empty()) window.begin_check(*window.unchecked_.front());
}

// Nothing is written any more once something was refused, or lost.
void write_window::drop_unchecked() {
  for (slot* s : unchecked_) give_back(*s);
  unchecked_.clear();
}

void write_window::begin_write(slot& s) {
  if (s.write.length == 0) {
    give_back(s);
    return;
  }
  s.work.request = s.write;
  s.work.complete = written;
  file_.core.loop().start(s.work, scope_);
}

void write_window::written(op& o) noexcept {
  slot& s = *static_cast<slot*>(o.context);
  write_window& window = *s.window;
  window.ops_ += o.rounds;
  window.short_ops_ += o.short_rounds;
  if (o.outcome() >= 0) {
    window.bytes_written_ += static_cast<std::uint64_t>(o.outcome());
  } else {
    window.fail_with({static_cast<int>(-o.outcome()), "write", "receive_to_file"});
  }
  window.give_back(s);
}

void write_window::fail_with(const error& why) {
  if (failure_.code == 0) failure_ = why;
}

task<result<void>> write_window::drained() {
  progress_.forget();
  while (free_.size() < depth_) co_await progress_.notified_shielded();
  if (failure_.code != 0) co_return std::unexpected(failure_);
  co_return result<void>{};
}

}  // namespace sluice
