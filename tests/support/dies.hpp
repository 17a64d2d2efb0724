// Whether a call breaks an assertion: a programmer's error that must not pass unseen.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace support {

#ifdef NDEBUG
inline constexpr bool assertions_on = false;
#else
inline constexpr bool assertions_on = true;
#endif

// Runs it in a child of its own. Without assertions there is nothing to see: true.
template <class Call>
bool dies(Call call) {
  if (!assertions_on) return true;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    call();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

}  // namespace support
