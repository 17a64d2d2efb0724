// Memory of ended coroutines, kept by their thread for the next ones: a request of a server runs
// through dozens of frames, and the allocator's own cache for a thread holds seven of a size.
#pragma once

#include <cstddef>

namespace sluice::base {

// A thread keeps no more than this, and no frame larger than frame_bytes_max.
inline constexpr std::size_t kept_bytes_max = 512 * 1024;
inline constexpr std::size_t frame_bytes_max = 4096;

// What the calling thread keeps now, in bytes.
[[nodiscard]] std::size_t kept_bytes() noexcept;

}  // namespace sluice::base
