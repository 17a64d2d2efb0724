// Opening beneath a directory: by openat2(2), or by a walk that keeps the same rules.
#pragma once

#include <cstdint>
#include <string>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine_core;

// Opens `path` below `directory_fd` with the flags of openat(2): no "..", no symbolic links, no
// magic links. EXDEV: the path leads out; ELOOP: it meets a symbolic link. O_CLOEXEC is added.
[[nodiscard]] task<result<kernel::unique_fd>> open_beneath(engine_core& core, int directory_fd,
                                                           std::string path, int flags,
                                                           std::uint32_t mode = 0);

}  // namespace sluice
