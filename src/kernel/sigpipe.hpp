// Keeps SIGPIPE from a thread during calls that know no MSG_NOSIGNAL.
#pragma once

#include <signal.h>

namespace sluice::kernel {

// For as long as it lives the thread that made it does not see SIGPIPE; one that a call raised
// meanwhile is gone afterwards, one that was pending before still is. Handlers stay as they are
// (kernel-notes/sendfile_raises_sigpipe.md). Costs two system calls, a third unless raised_none()
// is said, another where the thread blocks SIGPIPE by itself, and keeps errno.
class sigpipe_guard {
 public:
  sigpipe_guard();
  sigpipe_guard(const sigpipe_guard&) = delete;
  sigpipe_guard& operator=(const sigpipe_guard&) = delete;
  ~sigpipe_guard();

  // The call moved all that it was asked for: there is nothing to take away.
  void raised_none() { may_be_raised_ = false; }

 private:
  sigset_t before_;
  bool was_pending_ = false;
  bool may_be_raised_ = true;
};

}  // namespace sluice::kernel
