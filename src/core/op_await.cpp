#include "kernel/clock.hpp"
#include "ops/table.hpp"
#include "sluice/op.hpp"

namespace sluice {

void op_await::begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept {
  op_.context = awaiting.address();
  op_.complete = [](op& o) noexcept { std::coroutine_handle<>::from_address(o.context).resume(); };
  if (timeout_.count() > 0 || op_.request.kind == op_kind::timeout) {
    op_.deadline_ns = kernel::deadline_after(timeout_.count());
  }
  start(*loop_, op_, task_scope);
}

result<std::size_t> op_await::await_resume() const noexcept {
  if (op_.result < 0) return fail(static_cast<int>(-op_.result), row_of(op_.request.kind).name);
  return static_cast<std::size_t>(op_.result);
}

}  // namespace sluice
