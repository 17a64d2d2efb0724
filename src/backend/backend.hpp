// The seam between the loop and what carries ops out: the ring, the thread pool, or a test's
// script.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernel/socket.hpp"
#include "ops/lists.hpp"
#include "sluice/op.hpp"

namespace sluice {

// Loop thread only, but for wake. Ops of carrier::loop never come here.
class backend {
 public:
  virtual ~backend() = default;

  // Before: the op is staged and on no list. After true: the backend has it and will answer exactly
  // once (a send_zc perhaps twice), the loop marks it in_flight. After false: no room now, which
  // answers make; nothing was begun. Polls may be refused while others are not, and so may all that
  // need room while those go on that need none.
  [[nodiscard]] virtual bool start(op& o) = 0;

  // Before: in_flight here, marked cancelling. The answer comes as any other, soon: the op's own
  // result if it was faster, else -ECANCELED. What blocks in a system call ends when that call
  // does.
  virtual void cancel(op& o) = 0;

  // Hands over all that was started, then waits for at least one answer, for `timeout_ns`
  // (negative: no limit; 0: not at all) or for wake(). Every answered op has `result` = this
  // round's count, -errno or -code::no_thread, and is appended to `answered`; nothing of the
  // caller's runs meanwhile. One with holds_memory set is appended again later, its result as it
  // is.
  virtual void wait(std::int64_t timeout_ns, op_list& answered) = 0;

  // Whether start() makes the call of such a request itself, at once, and answers with what it
  // said.
  [[nodiscard]] virtual bool calls_at_once(const op_request& request) const = 0;

  // Ends a wait under way, or the next one. Any thread.
  virtual void wake() = 0;

  // A descriptor for a foreign loop to wait on: readable, level-triggered, from the moment when
  // wait(0) would find something until that wait. Made when first asked for; -errno when it cannot
  // be.
  [[nodiscard]] virtual int poll_fd() = 0;
  // How many polls it carries at a time; SIZE_MAX: as many as there are.
  [[nodiscard]] virtual std::size_t polls_max() const = 0;
  // The mode its sockets must be in.
  [[nodiscard]] virtual kernel::socket_mode socket_mode() const = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;
};

}  // namespace sluice
