// Tells AddressSanitizer which memory of a pool nobody may touch; nothing without it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SLUICE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLUICE_ASAN 1
#endif
#endif

#ifdef SLUICE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace sluice::base {

inline void poison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t bytes) {
#ifdef SLUICE_ASAN
  __asan_poison_memory_region(data, bytes);
#endif
}

inline void unpoison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t bytes) {
#ifdef SLUICE_ASAN
  __asan_unpoison_memory_region(data, bytes);
#endif
}

}  // namespace sluice::base
