// What the page cache holds of a file.
#pragma once

#include <cstdint>

namespace sluice::kernel {

// Pages of the cache: their size, and the boundary at or before, or at or behind, an offset.
[[nodiscard]] std::uint64_t page_bytes();
[[nodiscard]] std::uint64_t page_floor(std::uint64_t offset);
[[nodiscard]] std::uint64_t page_ceiling(std::uint64_t offset);

// Whether the file has no disk behind it (tmpfs): what is read and written is in memory, or in
// swap. Asks no filesystem anything, and so never waits (kernel-notes/seals_tell_tmpfs.md).
[[nodiscard]] bool is_in_memory(int fd);

// Whether reading [offset, offset + bytes) would find every page in the cache and up to date, and
// so not wait for a disk. A false answer starts the kernel's read-ahead of what is missing. False
// also where the filesystem cannot tell (kernel-notes/residency_can_be_asked.md); a page may be
// evicted right after a true one. Costs three system calls at most, none of which waits.
[[nodiscard]] bool is_resident(int fd, std::uint64_t offset, std::uint64_t bytes);

// Writes the dirty pages of [offset, offset + bytes) back and waits for that: 0, or the errno of a
// write-back that failed, which this descriptor is then told no more (sync_file_range(2)). For a
// worker thread.
[[nodiscard]] int write_back(int fd, std::uint64_t offset, std::uint64_t bytes);
// Only begins to: no error is told, or taken from anybody.
void begin_write_back(int fd, std::uint64_t offset, std::uint64_t bytes);
// Drops the clean pages that lie wholly in the range; advice, which a filesystem may not take.
void drop_pages(int fd, std::uint64_t offset, std::uint64_t bytes);
// For reads and writes through the page cache that are to leave nothing there: RWF_DONTCACHE.
inline constexpr std::uint32_t dontcache_flag = 0x80;
// Whether reads and writes of this file may ask to leave nothing in the cache (RWF_DONTCACHE).
// Found by a read behind its end (kernel-notes/dontcache_leaves_no_pages.md), so the file must be
// open for reading.
[[nodiscard]] bool has_dontcache(int fd);

}  // namespace sluice::kernel
