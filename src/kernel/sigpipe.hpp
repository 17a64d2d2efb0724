// Keeps SIGPIPE from a thread during calls that know no MSG_NOSIGNAL.
#pragma once

#include <signal.h>

namespace sluice::kernel {

// For as long as it lives the thread that made it does not see SIGPIPE; one that a call raised
// meanwhile is gone afterwards, if may_have_raised() was said, and one that was pending before
// still is there. Handlers stay as they are (kernel-notes/sendfile_raises_sigpipe.md). Costs two
// system calls, one for what may have been raised, another where the thread blocks SIGPIPE by
// itself, and keeps errno.
class sigpipe_guard {
 public:
  sigpipe_guard();
  sigpipe_guard(const sigpipe_guard&) = delete;
  sigpipe_guard& operator=(const sigpipe_guard&) = delete;
  ~sigpipe_guard();

  // A call said EPIPE, or moved less than it was asked for: it may have raised one.
  void may_have_raised() { may_be_raised_ = true; }

 private:
  sigset_t before_;
  bool was_pending_ = false;
  bool may_be_raised_ = false;
};

}  // namespace sluice::kernel
