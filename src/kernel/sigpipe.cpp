#include "kernel/sigpipe.hpp"

#include <time.h>

#include <cerrno>

namespace sluice::kernel {
namespace {

sigset_t only_sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

bool is_pending() {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

}  // namespace

sigpipe_guard::sigpipe_guard() {
  const sigset_t wanted = only_sigpipe();
  pthread_sigmask(SIG_BLOCK, &wanted, &before_);
  if (sigismember(&before_, SIGPIPE) == 1) was_pending_ = is_pending();
}

sigpipe_guard::~sigpipe_guard() {
  const int error = errno;
  if (may_be_raised_ && !was_pending_) {
    const sigset_t raised = only_sigpipe();
    const timespec at_once{};
    sigtimedwait(&raised, nullptr, &at_once);  // EAGAIN: none was raised
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  errno = error;
}

}  // namespace sluice::kernel
