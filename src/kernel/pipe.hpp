// Pipes to splice through, and what the machine allows of them.
#pragma once

#include <cstdint>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {

// Both ends, non-blocking. Move-only.
class pipe {
 public:
  // Asks for `bytes` of room. Where that is refused (EPERM: fs.pipe-max-size, or the user's pipes
  // are at fs.pipe-user-pages-soft) the kernel's own size stays. Errors: EMFILE, ENFILE.
  static result<pipe> make(std::uint64_t bytes);

  [[nodiscard]] int read_end() const { return read_end_.get(); }
  [[nodiscard]] int write_end() const { return write_end_.get(); }
  // Room in all. A page, however few bytes of it are used, takes up one of bytes() / 4096 places.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] bool is_empty() const;

 private:
  pipe() = default;
  unique_fd read_end_;
  unique_fd write_end_;
  std::uint64_t bytes_ = 0;
};

// How many pipes of `bytes` one user may have before the kernel makes each further one tiny:
// fs.pipe-user-pages-soft. The largest number where there is no limit or it cannot be read.
[[nodiscard]] std::uint64_t pipes_per_user(std::uint64_t bytes);

// Whether the calls are there: 0, or the errno of a harmless one (ENOSYS, or EPERM under a filter).
[[nodiscard]] int try_splice();
[[nodiscard]] int try_sendfile();

}  // namespace sluice::kernel
