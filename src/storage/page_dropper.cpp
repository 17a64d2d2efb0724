#include "storage/page_dropper.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "kernel/file_info.hpp"
#include "kernel/page_cache.hpp"
#include "ops/table.hpp"
#include "sluice/scope.hpp"

namespace sluice {
namespace {

// What a write-back says that has lost data; anything else says that the filesystem or a filter
// does not know the call, and the pages are then written when the kernel likes.
bool has_lost_data(int failure) { return failure == EIO || failure == ENOSPC || failure == EDQUOT; }

}  // namespace

page_dropper::page_dropper(file_state& file, std::uint64_t offset, page_state pages,
                           scope* task_scope)
    : file_(file),
      offset_(kernel::page_floor(offset)),
      chunk_bytes_(file.core.values().storage.drop_bytes),
      pages_(pages),
      scope_(task_scope),
      progress_(file.core.loop()),
      dropped_(offset_) {}

page_dropper::~page_dropper() {
  base::require(call_.state() == op_state::idle, "dropping pages ended before its call had");
  if (own_fd_) file_.core.closer().close_later({std::move(own_fd_), {}, {}});
}

// On a worker: waits for the disk. The call itself does not fail, or it might be made again.
std::int64_t page_dropper::drop(void* job) {
  page_dropper& self = *static_cast<page_dropper*>(job);
  const int fd = self.file_.fd.get();
  const std::uint64_t bytes = self.to_ - self.from_;
  if (self.pages_ == page_state::dirty) {
    if (!self.own_fd_) self.own_fd_.reset(std::max(kernel::reopen(fd, O_RDONLY), -1));
    if (self.own_fd_) {
      self.failure_ = kernel::write_back(self.own_fd_.get(), self.from_, bytes);
    } else {
      kernel::begin_write_back(fd, self.from_, bytes);
    }
  }
  kernel::drop_pages(fd, self.from_, bytes);
  return 0;
}

bool page_dropper::has_failed() const { return has_lost_data(failure_); }

void page_dropper::begin(std::uint64_t from, std::uint64_t to) {
  from_ = from;
  to_ = to;
  call_.request = call_of(drop, this);
  call_.context = this;
  call_.complete = ended;
  file_.core.loop().start(call_, scope_);
}

void page_dropper::ended(op& o) noexcept {
  page_dropper& self = *static_cast<page_dropper*>(o.context);
  tuning::cache_counters& counters = self.file_.core.counters().cache;
  counters.drops.add();
  self.ops_ += o.rounds;
  if (o.outcome() >= 0 && self.to_ > self.dropped_)
    counters.dropped_bytes.add(self.to_ - self.dropped_);
  self.dropped_ = std::max(self.dropped_, self.to_);
  self.progress_.notify();
}

void page_dropper::passed(std::uint64_t offset) {
  const std::uint64_t to = kernel::page_floor(offset);
  if (call_.state() != op_state::idle || to < dropped_ + chunk_bytes_ || has_failed()) return;
  begin(dropped_, std::min(to, dropped_ + call_bytes_max()));
}

task<int> page_dropper::finished(std::uint64_t offset) {
  const std::uint64_t end = offset > offset_ ? kernel::page_ceiling(offset) : offset_;
  std::uint64_t from = offset_;
  while (true) {
    progress_.forget();
    while (call_.state() != op_state::idle) co_await progress_.notified_shielded();
    const bool cancelled = scope_ != nullptr && scope_->cancelled();
    if (has_failed() || cancelled || from >= end) break;
    const std::uint64_t to = std::min(end, from + call_bytes_max());
    begin(from, to);
    from = to;
  }
  co_return has_failed() ? failure_ : 0;
}

}  // namespace sluice
