// Memory of ended coroutines, kept by their thread for the next ones: a request of a server runs
// through dozens of frames, and the allocator's own cache for a thread holds seven of a size.
#pragma once

#include <cstddef>

namespace sluice::base {

// A thread keeps no more than this in all and of one size, so that a burst of large frames leaves
// room for others, and no frame larger than frame_bytes_max.
inline constexpr std::size_t kept_bytes_max = 512 * 1024;
inline constexpr std::size_t kept_of_a_size_max = 64 * 1024;
inline constexpr std::size_t frame_bytes_max = 4096;

// What the calling thread keeps now, in bytes.
[[nodiscard]] std::size_t kept_bytes() noexcept;

}  // namespace sluice::base
