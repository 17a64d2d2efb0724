// Checks at the end of its life that descriptors and threads are as many as at the beginning.
// Declare it before what it watches.
#pragma once

#include <doctest/doctest.h>

#include "support/process_counts.hpp"

namespace support {

class all_given_back {
 public:
  all_given_back() = default;
  all_given_back(const all_given_back&) = delete;
  all_given_back& operator=(const all_given_back&) = delete;
  ~all_given_back() {
    CHECK_MESSAGE(comes_true([this] { return fd_count() == fds_; }), "descriptors: ", fd_count(),
                  " instead of ", fds_);
    CHECK_MESSAGE(comes_true([this] { return thread_count() <= threads_; }),
                  "threads: ", thread_count(), " instead of ", threads_);
  }

 private:
  std::size_t fds_ = fd_count();
  std::size_t threads_ = thread_count();
};

}  // namespace support
