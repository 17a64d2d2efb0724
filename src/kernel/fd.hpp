// Descriptors as values: one that closes itself, and the two kinds the loop is woken by.
#pragma once

#include <cstdint>
#include <utility>

#include "sluice/result.hpp"

namespace sluice::kernel {

// Owns a descriptor. close(2) is not repeated on EINTR: Linux has released the number by then.
class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// An eventfd. ring() may be called by any thread and makes the descriptor readable until clear().
class wake_fd {
 public:
  static result<wake_fd> make();
  void ring() const;
  void clear() const;
  [[nodiscard]] int get() const { return fd_.get(); }

 private:
  unique_fd fd_;
};

// A timerfd on CLOCK_MONOTONIC: readable from `deadline_ns` on; 0 disarms it.
class timer_fd {
 public:
  static result<timer_fd> make();
  void arm(std::int64_t deadline_ns) const;
  [[nodiscard]] int get() const { return fd_.get(); }

 private:
  unique_fd fd_;
};

}  // namespace sluice::kernel
