// What the page cache holds of a file.
#pragma once

#include <cstdint>

namespace sluice::kernel {

// Whether reading [offset, offset + bytes) would find every page in the cache and up to date, and
// so not wait for a disk. A false answer starts the kernel's read-ahead of what is missing. False
// also where the filesystem cannot tell (kernel-notes/residency_can_be_asked.md); a page may be
// evicted right after a true one. Costs three system calls at most, none of which waits.
[[nodiscard]] bool is_resident(int fd, std::uint64_t offset, std::uint64_t bytes);

}  // namespace sluice::kernel
