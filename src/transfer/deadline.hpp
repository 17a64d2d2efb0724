// How long a whole transfer may last. It runs in a scope of its own then, which is cancelled when
// the time is over: what it waits for says ECANCELED, and it unwinds as after any cancel.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "core/engine_core.hpp"
#include "core/waiter.hpp"
#include "sluice/engine.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

// Carries `work` out. `limit` counts from when this is awaited; below zero it has passed already.
// What it came to, or ETIMEDOUT in place of the ECANCELED that it came to after the limit. A cancel
// from outside is passed on.
template <class T>
[[nodiscard]] task<result<T>> ended_within(engine_core& core, std::chrono::nanoseconds limit,
                                           task<result<T>> work) {
  waiter ended(core.loop());
  std::optional<result<T>> outcome;
  const detail::root_task begun = detail::carry(std::move(work), [&](result<T> told) {
    outcome.emplace(std::move(told));
    ended.notify();
  });
  scope& own = begun.handle.promise().task_scope_;  // gone with the outcome
  begun.handle.resume();
  bool late = false;
  if (!outcome) {
    const bool in_time =
        co_await ended.notified_within(std::max(limit, std::chrono::nanoseconds(1)));
    late = !in_time && ended.timed_out();
    if (!outcome) own.cancel(core.loop());
  }
  while (!outcome) co_await ended.notified_shielded();
  if (late && !*outcome && outcome->error().code == ECANCELED) {
    co_return fail(ETIMEDOUT, outcome->error().op, "the deadline has passed");
  }
  co_return std::move(*outcome);
}

}  // namespace sluice
