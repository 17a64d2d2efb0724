// Opening beneath a directory: by openat2(2), or by a walk that keeps the same rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/fd.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine_core;

// Why a path is refused before anything is looked up, 0 when it is not. EXDEV: it begins at the
// root of the process, or has a ".." (openat2 would allow one that stays beneath). EINVAL: a NUL,
// at which every system call would cut it off.
[[nodiscard]] int path_refusal(std::string_view path);

// Opens `path` below `directory_fd` with the flags of openat(2): no "..", no symbolic links, no
// magic links. EXDEV: the path leads out; ELOOP: it meets a symbolic link; EINVAL: it has a NUL.
// O_CLOEXEC is added.
[[nodiscard]] task<result<kernel::unique_fd>> open_beneath(engine_core& core, int directory_fd,
                                                           std::string path, int flags,
                                                           std::uint32_t mode = 0);

}  // namespace sluice
