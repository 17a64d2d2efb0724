// Whether a call ends the process: a programmer's error that must not pass unseen.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

namespace support {

#ifdef NDEBUG
inline constexpr bool assertions_on = false;
#else
inline constexpr bool assertions_on = true;
#endif

inline constexpr unsigned child_seconds_max = 30;  // a call that hangs has not died

// Runs it in a child whose standard error is `standard_error`; whether it aborted.
template <class Call>
bool aborts_with(int standard_error, Call call) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(child_seconds_max);
    ::signal(SIGABRT, SIG_DFL);
    ::dup2(standard_error, STDERR_FILENO);
    call();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

// For what is checked in every build.
template <class Call>
bool aborts(Call call) {
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  const bool aborted = aborts_with(nowhere, call);
  ::close(nowhere);
  return aborted;
}

// For assert(3). Without assertions there is nothing to see: true.
template <class Call>
bool dies(Call call) {
  return !assertions_on || aborts(call);
}

// What a call that aborts says on standard error before; at most what a pipe holds. Empty when it
// does not abort.
template <class Call>
std::string last_words(Call call) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  const bool aborted = aborts_with(ends[1], call);
  ::close(ends[1]);
  std::string said(65'536, '\0');
  const ssize_t bytes = ::read(ends[0], said.data(), said.size());
  ::close(ends[0]);
  said.resize(aborted && bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  return said;
}

}  // namespace support
