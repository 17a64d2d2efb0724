// Of a directory one sync runs at a time in the process. On btrfs, and on ext4 without a journal,
// one that begins while another is under way may find nothing left to write and say yes before the
// other has written it (kernel-notes/fsync_may_not_wait_for_another.md).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace sluice {

// Of all engines of the process; any thread.
class directory_turns {
 public:
  struct key {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const key&, const key&) = default;
  };

  [[nodiscard]] static directory_turns& of_process();
  directory_turns() = default;
  directory_turns(const directory_turns&) = delete;
  directory_turns& operator=(const directory_turns&) = delete;

  // Whether the turn was free, and is the caller's from now on.
  [[nodiscard]] bool try_begin(const key& directory);
  // Waits until it is free, as long as a disk takes: for a worker.
  void begin(const key& directory);
  void end(const key& directory);

  // A turn, from begin to end.
  class [[nodiscard]] hold {
   public:
    hold(directory_turns& of, const key& directory) : of_(of), directory_(directory) {
      of_.begin(directory_);
    }
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    ~hold() { of_.end(directory_); }

   private:
    directory_turns& of_;
    const key directory_;
  };

 private:
  [[nodiscard]] bool is_free(const key& directory) const;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<key> taken_;  // few, and its memory stays
};

}  // namespace sluice
