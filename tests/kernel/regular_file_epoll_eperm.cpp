// epoll takes no regular file and no directory: EPOLL_CTL_ADD is EPERM. A poll op on the ring
// reports such a file as ready at once, whatever a read of it will cost.
#include <sys/epoll.h>

#include "probe.hpp"

namespace {

void show() {
  const probe::temp_dir dir;
  const probe::descriptor file = dir.unnamed_file();
  const probe::descriptor epoll(
      static_cast<int>(probe::must(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")));
  const auto add = [&](int fd) {
    epoll_event interest{.events = EPOLLIN, .data = {.u64 = 1}};
    return probe::result_of(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &interest));
  };
  probe::expect_equal(add(file.get()), -EPERM, "ADD of a regular file");
  probe::expect_equal(add(dir.fd()), -EPERM, "ADD of a directory");

  probe::ring ring;
  const int polled =
      ring.perform([&](io_uring_sqe* sqe) { ::io_uring_prep_poll_add(sqe, file.get(), POLLIN); });
  probe::expect(polled > 0 && (polled & POLLIN) != 0, "the ring's poll finds the file readable");
}

}  // namespace

int main() { return probe::run(show); }
