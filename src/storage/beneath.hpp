// Opening beneath a directory: by openat2(2), or by a walk that keeps the same rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/beneath.hpp"
#include "kernel/fd.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine_core;

// Why a path is refused before anything is looked up, 0 when it is not. EXDEV: it begins at the
// root of the process, or has a ".." (openat2 would allow one that stays beneath). EINVAL: a NUL,
// at which every system call would cut it off.
[[nodiscard]] int path_refusal(std::string_view path);

// The request that opens `path` below `directory_fd`, by openat2 or by a walk on a worker, and what
// it points to: stays where it is until the request has ended. Takes what path_refusal passes.
class opening_beneath {
 public:
  opening_beneath(const engine_core& core, int directory_fd, const char* path, int flags,
                  std::uint32_t mode);
  opening_beneath(const opening_beneath&) = delete;
  opening_beneath& operator=(const opening_beneath&) = delete;

  [[nodiscard]] const op_request& request() const { return request_; }
  // Carries it out, for who is on a worker already: a descriptor or -errno.
  [[nodiscard]] std::int64_t perform() const;

 private:
  static std::int64_t walk(void* opening);
  const char* path_;
  int directory_fd_;
  int flags_;
  std::uint32_t mode_;
  kernel::beneath_how how_;
  op_request request_;
};

// Opens `path` below `directory_fd` with the flags of openat(2): no "..", no symbolic links, no
// magic links. EXDEV: the path leads out; ELOOP: it meets a symbolic link; EINVAL: it has a NUL.
// O_CLOEXEC is added.
[[nodiscard]] task<result<kernel::unique_fd>> open_beneath(engine_core& core, int directory_fd,
                                                           std::string path, int flags,
                                                           std::uint32_t mode = 0);

}  // namespace sluice
