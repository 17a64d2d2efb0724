// What a process holds, counted from /proc: for checks that all is given back.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <thread>

namespace support {

// Open descriptors of this process, without the one that counting needs.
inline std::size_t fd_count() {
  const auto entries = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries))) - 1;
}

// Threads of this process, the kernel's io_uring workers for it included.
inline std::size_t thread_count() {
  const auto entries = std::filesystem::directory_iterator("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

// Asks until it is true, for at most `limit`: the kernel takes threads and rings down behind the
// back of the call that ended them.
template <class Predicate>
bool comes_true(Predicate holds, std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace support
