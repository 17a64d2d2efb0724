// Where blocks never lie on pages of their file, because the file begins within a block of the
// torrent, they are copied together: a copy in memory costs a fraction of a write through the page
// cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "sluice/block_writer.hpp"
#include "sluice/engine.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace bt {

// Windows of files, each as long as a block of the pool and aligned to that. A window goes to its
// file's writer once it is full, or when there are too many, or when somebody wants to read or to
// commit. Loop thread only. Everything it refers to must outlive it.
class staging {
 public:
  struct target {
    sluice::block_writer* writer = nullptr;
    std::uint64_t bytes = 0;  // of the file
  };

  // `windows_max`: of all files together.
  staging(sluice::engine& on, std::size_t windows_max) : engine_(on), windows_max_(windows_max) {}

  // Copies `bytes` for `offset` of the file. What was put there before is replaced. `bytes` must
  // stay until it is done. Errors are those of the writer, and of waiting for memory.
  [[nodiscard]] sluice::task<sluice::result<void>> put(target to, std::span<const std::byte> bytes,
                                                       std::uint64_t offset);
  // Until nothing of the range waits here any more: it is with the writer.
  [[nodiscard]] sluice::task<sluice::result<void>> flush(target of, std::uint64_t offset,
                                                         std::uint64_t bytes);

 private:
  struct range {
    std::uint64_t begin = 0;  // in the window
    std::uint64_t end = 0;
  };
  struct window {
    target of;
    std::uint64_t begin = 0;  // in the file
    sluice::lease memory;
    std::vector<range> filled;  // ascending, with gaps between them
    bool leaving = false;       // parts of it are with the writer and may not change any more
  };

  [[nodiscard]] window* find(const target& of, std::uint64_t begin);
  static void fill(window& in, range added);
  static void split_at_last_page(window& full);
  [[nodiscard]] sluice::task<sluice::result<void>> make(target of, std::uint64_t begin);
  [[nodiscard]] sluice::task<sluice::result<void>> hand_over(target of, std::uint64_t begin);

  sluice::engine& engine_;
  const std::size_t windows_max_;
  std::uint64_t window_bytes_ = 0;  // known with the first block
  std::vector<window> windows_;     // the oldest first
};

}  // namespace bt
