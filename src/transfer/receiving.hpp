// What one receive_to_file works with, whatever its path.
#pragma once

#include <chrono>
#include <cstdint>

#include "kernel/clock.hpp"
#include "sluice/transfer.hpp"
#include "storage/file_state.hpp"

namespace sluice {

struct receiving {
  stream& from;
  file_state& into;
  receive_options options;
  receipt& so_far;
  std::uint64_t unit = 1;  // of the file offsets written: the alignment for direct, else 1
  std::uint64_t begun_ns = 0;
  // Of options.length, the prefix included. By splice only what the file has: bytes that get lost
  // in a pipe were never anybody's.
  std::uint64_t received = 0;

  [[nodiscard]] bool direct() const { return so_far.path == path::direct; }
  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::nanoseconds(kernel::now_ns() - static_cast<std::int64_t>(begun_ns));
  }
  [[nodiscard]] std::uint64_t left() const { return options.length - received; }
  [[nodiscard]] std::uint64_t next_offset() const { return options.offset + received; }
};

// Writes the prefix, then splices the rest. 0, or why it ended; `received` is exact either way.
[[nodiscard]] task<int> receive_spliced(receiving& r);

}  // namespace sluice
