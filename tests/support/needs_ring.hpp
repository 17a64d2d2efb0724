// Include it where nothing can be tested without io_uring: the program then ends as skipped where
// it is forbidden or missing.
#pragma once

#include <liburing.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace support {

inline const bool ring_there = [] {
  io_uring ring{};
  const int made = io_uring_queue_init(2, &ring, 0);
  if (made < 0) {
    std::printf("skipped: no io_uring here: %s\n", std::strerror(-made));
    std::fflush(stdout);
    ::_exit(77);  // meson's number for it
  }
  io_uring_queue_exit(&ring);
  return true;
}();

}  // namespace support
