// The loop: stages ops, has the backend submit them, harvests every answer, and only then runs
// completions. One turn, in order:
//   stage    ops begun since the last turn go to the backend, as far as it has room; once the loop
//            has moved so many bytes itself, calls that would move more wait for the next turn
//   wait     the backend submits them and waits for an answer, the next timer, or a wake-up
//   settle   EINTR, EAGAIN and short counts are absorbed; final results go to the ready list
//   timers   what is past its deadline ends or is cancelled
//   mailbox  what other threads posted runs
//   ready    completions run, so many per turn; what they begin waits for the next turn
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/backend.hpp"
#include "kernel/sigpipe.hpp"
#include "ops/lists.hpp"
#include "sluice/op.hpp"
#include "sluice/scope.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

class loop {
 public:
  loop(backend& carrier, tuning::counters& counters);
  loop(const loop&) = delete;
  loop& operator=(const loop&) = delete;
  ~loop();  // aborts when an op is under way: the backend would answer into freed memory

  // idle -> staged; or -> harvested with -ECANCELED when the scope is cancelled.
  void start(op& o, scope* task_scope);
  // Asks the op to end with -reason. Nothing happens to an op that is idle, harvested or already
  // asked.
  void cancel(op& o, int reason);
  // Answers a parked op; it must be in flight and is taken off its waker's list.
  void answer_parked(op& o, std::int64_t result);

  // From now on a turn comes only when the backend's poll_fd calls for it, so what is begun or ends
  // between turns calls as well.
  void become_guest() { is_guest_ = true; }

  // One turn; runs at most `budget` completions and returns how many it ran. Negative timeout: no
  // limit. `bytes`: after so many moved by its own calls it puts off those that move much.
  std::size_t turn(std::int64_t timeout_ns, std::size_t budget,
                   std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max());

  // Runs `work` in the next turn, in the order of posting. Any thread.
  void post(std::move_only_function<void()> work);

  // Ops begun and not yet told their result.
  [[nodiscard]] std::size_t ops_under_way() const { return under_way_; }
  // CLOCK_MONOTONIC of the next timer, 0 when there is none; and whether a turn would have work at
  // once.
  [[nodiscard]] std::int64_t next_deadline_ns() const;
  // An answered turn counts: the kernel posts so many completions per enter and tells of the rest
  // no more (kernel-notes/deferred_work_runs_in_batches.md). So does a cancel, which the backend
  // hands over and answers in its next wait.
  [[nodiscard]] bool has_work() const {
    return !ready_.empty() || !staged_.empty() || !put_off_.empty() || answered_something_ ||
           asked_to_end_;
    // Not refused_: only answers make room, and they are work themselves.
  }

 private:
  struct by_deadline {
    bool operator()(const op& a, const op& b) const { return a.deadline_ns < b.deadline_ns; }
  };
  using timer_set =
      boost::intrusive::multiset<op, boost::intrusive::member_hook<op, op::timer_hook, &op::timer>,
                                 boost::intrusive::compare<by_deadline>,
                                 boost::intrusive::constant_time_size<false>>;

  void call_host();
  void stage(std::uint64_t bytes);
  // Made by the first call of a round of staging that may raise it, and gone with the round.
  using no_sigpipe = std::optional<kernel::sigpipe_guard>;
  bool hand_over(op& o, no_sigpipe& guard);
  void hand_over_refused(op_list& refused, no_sigpipe& guard);
  std::int64_t wait_limit(std::int64_t timeout_ns) const;
  void settle(op& o);
  void settle_interrupted(op& o);
  void settle_cancelled(op& o);
  void again(op& o);
  void finish(op& o, std::int64_t result);
  void fire_timers();
  void run_mailbox();
  std::size_t run_ready(std::size_t budget);

  backend& backend_;
  tuning::counters& counters_;
  // Loop thread.
  op_list staged_;
  op_list put_off_;        // staged, and the turn had moved enough
  op_list refused_;        // staged, and the backend had no room for them
  op_list refused_polls_;  // a list of their own: who only waits keeps nobody from working
  op_list answered_;
  op_list ready_;
  timer_set timers_;
  std::size_t under_way_ = 0;
  std::uint64_t moved_in_turn_ = 0;  // by calls of the loop
  bool answered_something_ = false;  // in the last turn
  bool asked_to_end_ = false;        // an op, since the last wait
  bool is_guest_ = false;
  bool in_turn_ = false;
  bool host_called_ = false;  // since the last turn
  std::vector<std::move_only_function<void()>> mail_now_;
  // Any thread.
  std::mutex mailbox_mutex_;
  std::vector<std::move_only_function<void()>> mailbox_;
};

}  // namespace sluice
