// What the peers that go around the page cache share: memory, lengths and a trial for O_DIRECT.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "peer.hpp"

namespace peer {

// Enough for any filesystem on blocks of 512 or 4096 bytes.
constexpr std::size_t alignment = 4096;

constexpr std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

struct free_aligned {
  void operator()(char* memory) const { std::free(memory); }
};
using aligned_buffer = std::unique_ptr<char, free_aligned>;

inline aligned_buffer make_aligned(std::size_t bytes) {
  return aligned_buffer(static_cast<char*>(std::aligned_alloc(alignment, bytes)));
}

// Buffered reads or writes under the name of direct ones would be a false figure.
inline void try_direct(const settings& options, int dir) {
  if (options.block_bytes % alignment != 0) refuse(options, "--block is no multiple of 4096");
  const std::string name = "." + options.program + "-trial";
  const owned_fd file(::openat(dir, name.c_str(), O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC, 0644));
  const int error = errno;
  ::unlinkat(dir, name.c_str(), 0);
  if (!file) refuse(options, "no O_DIRECT there: " + std::string(std::strerror(error)));
}

}  // namespace peer
