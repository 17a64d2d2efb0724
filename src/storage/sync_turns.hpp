// Of a directory, and of a file that has a name, one sync runs at a time in the process. On btrfs,
// and of directories on ext4 without a journal, one that begins while another is under way may find
// nothing left to write and say yes before the other has written it
// (kernel-notes/fsync_may_not_wait_for_another.md).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace sluice {

// Of all engines of the process; any thread.
class sync_turns {
 public:
  struct key {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const key&, const key&) = default;
  };

  [[nodiscard]] static sync_turns& of_process();
  sync_turns() = default;
  sync_turns(const sync_turns&) = delete;
  sync_turns& operator=(const sync_turns&) = delete;

  // Whether the turn was free, and is the caller's from now on.
  [[nodiscard]] bool try_begin(const key& what);
  // Waits until it is free, as long as a disk takes: for a worker.
  void begin(const key& what);
  void end(const key& what);

  // A turn, from begin to end.
  class [[nodiscard]] hold {
   public:
    hold(sync_turns& of, const key& what) : of_(of), what_(what) { of_.begin(what_); }
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    ~hold() { of_.end(what_); }

   private:
    sync_turns& of_;
    const key what_;
  };

 private:
  [[nodiscard]] bool is_free(const key& what) const;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<key> taken_;  // few, and its memory stays
};

}  // namespace sluice
