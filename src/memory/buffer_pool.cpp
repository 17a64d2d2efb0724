#include "memory/buffer_pool.hpp"

#include <cassert>
#include <cerrno>
#include <utility>

#include "backend/loop.hpp"
#include "base/poison.hpp"
#include "kernel/clock.hpp"
#include "memory/registration.hpp"

namespace sluice {

buffer_class::buffer_class(std::span<std::byte> memory, std::uint32_t block_bytes, loop& on,
                           tuning::memory_counters& counters)
    : memory_(memory), block_bytes_(block_bytes), loop_(on), counters_(counters) {
  assert(memory.size() % block_bytes == 0);
  const auto count = static_cast<std::uint32_t>(memory.size() / block_bytes);
  free_.reserve(count);  // a block given back never allocates
  holders_.resize(count);
  for (std::uint32_t i = count; i > 0; --i) free_.push_back(i - 1);
  base::poison(memory.data(), memory.size());
}

buffer_class::~buffer_class() {
  assert(free_.size() == blocks() && waiters_.empty());
  base::unpoison(memory_.data(), memory_.size());
}

std::uint32_t buffer_class::index_of(const std::byte* data) const {
  return static_cast<std::uint32_t>(static_cast<std::size_t>(data - memory_.data()) / block_bytes_);
}

lease buffer_class::make_lease(std::uint32_t index) {
  std::byte* data = memory_.data() + std::size_t{index} * block_bytes_;
  holders_[index] = 1;
  base::unpoison(data, block_bytes_);
  const std::int32_t buffer_index = registered_ != nullptr ? registered_->index_of(data) : -1;
  return lease(this, data, block_bytes_, buffer_index);
}

lease buffer_class::try_take() {
  if (free_.empty()) return {};
  const std::uint32_t index = free_.back();
  free_.pop_back();
  counters_.leases_taken.add();
  counters_.leases_in_use.add();
  return make_lease(index);
}

void buffer_class::share(const std::byte* data) {
  assert(holders_[index_of(data)] > 0);
  ++holders_[index_of(data)];
}

void buffer_class::give_back(const std::byte* data) {
  const std::uint32_t index = index_of(data);
  assert(holders_[index] > 0);
  if (--holders_[index] > 0) return;
  if (waiters_.empty()) {
    base::poison(memory_.data() + std::size_t{index} * block_bytes_, block_bytes_);
    free_.push_back(index);
    counters_.leases_in_use.subtract();
    return;
  }
  op& longest = waiters_.front();
  static_cast<lease_await*>(longest.request.data)->granted_ = make_lease(index);
  counters_.leases_taken.add();
  loop_.answer_parked(longest, 0);
}

void buffer_class::wait(op& waiter, scope* task_scope) {
  counters_.leases_waited.add();
  loop_.start(waiter, task_scope);
  if (waiter.state() == op_state::in_flight) waiters_.push_back(waiter);  // else refused: cancelled
}

void lease::reset() {
  if (data_ == nullptr) return;
  from_->give_back(std::exchange(data_, nullptr));
}

lease lease::part(std::uint32_t offset, std::uint32_t bytes) const {
  assert(data_ != nullptr && offset < bytes_ && bytes > 0 && bytes <= bytes_ - offset);
  from_->share(data_);
  return lease(from_, data_ + offset, bytes, buffer_index_);
}

lease_await::lease_await(buffer_class& from, loop& on, std::chrono::nanoseconds timeout)
    : from_(&from), loop_(&on), timeout_(timeout) {}

bool lease_await::await_ready() noexcept {
  granted_ = from_->try_take();
  return static_cast<bool>(granted_);
}

void lease_await::begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept {
  wait_.request.kind = op_kind::park;
  wait_.request.data = this;
  wait_.context = awaiting.address();
  wait_.complete = [](op& o) noexcept {
    std::coroutine_handle<>::from_address(o.context).resume();
  };
  if (timeout_.count() > 0) wait_.deadline_ns = kernel::deadline_after(timeout_.count());
  from_->wait(wait_, task_scope);
}

result<lease> lease_await::await_resume() noexcept {
  if (granted_) return std::move(granted_);
  return fail(static_cast<int>(-wait_.outcome()), "lease", "waiting for a block");
}

}  // namespace sluice
