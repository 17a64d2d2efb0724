// sendfile and splice to a socket that is shut down raise SIGPIPE in the thread that calls, for
// they know no MSG_NOSIGNAL. Blocked there, the signal stays pending for that thread and can be
// taken away.
#include <signal.h>
#include <sys/sendfile.h>
#include <time.h>

#include "probe.hpp"

namespace {

sigset_t sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

bool take_away() {
  const sigset_t set = sigpipe();
  const timespec at_once{};
  return ::sigtimedwait(&set, nullptr, &at_once) == SIGPIPE;
}

void show() {
  const sigset_t set = sigpipe();
  probe::must(::sigprocmask(SIG_BLOCK, &set, nullptr), "sigprocmask");
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  probe::must(::ftruncate(file.get(), 4096), "ftruncate");
  const auto [near, far] = probe::tcp_pair();
  probe::must(::shutdown(near.get(), SHUT_WR), "shutdown");

  off_t offset = 0;
  probe::expect_equal(probe::result_of(::sendfile(near.get(), file.get(), &offset, 4096)), -EPIPE,
                      "sendfile to a socket that is shut down");
  probe::expect(take_away(), "sendfile raised SIGPIPE");

  const auto [read_end, write_end] = probe::pipe_pair();
  probe::must(::write(write_end.get(), "x", 1), "write");
  probe::expect_equal(
      probe::result_of(::splice(read_end.get(), nullptr, near.get(), nullptr, 1, 0)), -EPIPE,
      "splice to a socket that is shut down");
  probe::expect(take_away(), "splice raised SIGPIPE");

  probe::expect_equal(probe::result_of(::send(near.get(), "x", 1, MSG_NOSIGNAL)), -EPIPE, "send");
  probe::expect(!take_away(), "send with MSG_NOSIGNAL raised none");
}

}  // namespace

int main() { return probe::run(show); }
