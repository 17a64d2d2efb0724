// Keeps what one transfer moves out of the page cache: behind its cursor pages are written back and
// dropped, by one call of a worker at a time. Nobody waits for it before the end: a slow disk
// leaves more pages for the next call.
#pragma once

#include <cstdint>

#include "core/waiter.hpp"
#include "sluice/op.hpp"
#include "sluice/task.hpp"
#include "storage/file_state.hpp"

namespace sluice {

enum class page_state : std::uint8_t {
  dirty,  // to be written back before they can be dropped
  clean,  // only read: others' dirty pages stay
};

// Loop thread only. Must be finished before it is destroyed.
class page_dropper {
 public:
  // For the pages of [offset, ...).
  page_dropper(file_state& file, std::uint64_t offset, page_state pages, scope* task_scope);
  page_dropper(const page_dropper&) = delete;
  page_dropper& operator=(const page_dropper&) = delete;
  ~page_dropper();

  // The transfer is done with everything before `offset`.
  void passed(std::uint64_t offset);
  // Drops all up to `offset`, once more what was dirty or in use at its time, piece by piece; waits
  // for it. 0, or the errno of a write-back that failed, which the next sync of the file says, too.
  // A cancelled task drops nothing more.
  [[nodiscard]] task<int> finished(std::uint64_t offset);
  [[nodiscard]] std::uint64_t ops() const { return ops_; }  // calls made so far

 private:
  static std::int64_t drop(void* job);
  static void ended(op& o) noexcept;
  [[nodiscard]] bool has_failed() const;
  // A cancel waits for the call under way, so it must not write gigabytes back.
  [[nodiscard]] std::uint64_t call_bytes_max() const { return 4 * chunk_bytes_; }
  void begin(std::uint64_t from, std::uint64_t to);

  file_state& file_;
  const std::uint64_t offset_;
  const std::uint64_t chunk_bytes_;
  const page_state pages_;
  scope* scope_;
  waiter progress_;
  op call_;
  std::uint64_t dropped_;  // everything before it, and from offset_ on, has had its call
  std::uint64_t from_ = 0;
  std::uint64_t to_ = 0;
  std::uint64_t ops_ = 0;
  int failure_ = 0;  // the last call's; written by the worker while it is under way
  // Of its own, so that a write-back that fails is still told to the file's descriptor, and so to
  // its next sync. None: not yet, or it cannot be had.
  kernel::unique_fd own_fd_;
};

}  // namespace sluice
