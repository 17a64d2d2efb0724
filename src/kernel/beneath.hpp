// Opening beneath a directory, by the rules of openat2(2) RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
// RESOLVE_NO_MAGICLINKS (kernel-notes/openat2_beneath.md).
#pragma once

#include <array>
#include <cstdint>

namespace sluice::kernel {

// struct open_how of linux/openat2.h, whose header no other layer needs to see.
struct beneath_how {
  std::uint64_t flags = 0;
  std::uint64_t mode = 0;
  std::uint64_t resolve = 0;
};
[[nodiscard]] beneath_how make_beneath_how(int flags, std::uint32_t mode);

// The same rules component by component, for kernels and containers without openat2. Blocks.
// Returns a descriptor or -errno: EXDEV for a path that leads out, ELOOP for a symbolic link.
[[nodiscard]] std::int64_t walk_beneath(int directory_fd, const char* path, int flags,
                                        std::uint32_t mode);

}  // namespace sluice::kernel
