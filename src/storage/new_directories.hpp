// Directories that were made and that no sync of their parent has covered yet: whoever finds one
// may publish in it before its maker has synced, and what he was told is durable must not go with
// the name of its directory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "kernel/file_info.hpp"

namespace sluice {

// Of all engines of the process; any thread. Directories are known by their parents.
class new_directories {
 public:
  [[nodiscard]] static new_directories& of_process();
  new_directories() = default;
  new_directories(const new_directories&) = delete;
  new_directories& operator=(const new_directories&) = delete;

  // Before something is made in `parent`, and when that has ended. `refused` is for who knows that
  // nothing was made: an entry that stays slows every durable publish of the process.
  enum class making : std::uint8_t { perhaps_made, refused };
  void begin(const kernel::inode_info& parent);
  void end(const kernel::inode_info& parent, making how);

  // Nearly always false: then nobody need ask what follows.
  [[nodiscard]] bool any() const { return count_.load(std::memory_order_acquire) > 0; }
  // Whether there are some in `parent`: then with what a sync is to be noted that begins now.
  [[nodiscard]] std::optional<std::uint64_t> unsynced_in(const kernel::inode_info& parent) const;
  // A sync of `parent` that began then has said yes.
  void synced(const kernel::inode_info& parent, std::uint64_t begun);

 private:
  struct key {
    std::uint64_t device;
    std::uint64_t inode;
    friend auto operator<=>(const key&, const key&) = default;
  };
  struct changes {
    std::size_t under_way = 0;
    std::uint64_t last = 0;  // number of the one that ended last; 0: none did
  };
  static key key_of(const kernel::inode_info& i) { return {i.device, i.inode}; }
  std::atomic<std::size_t> count_{0};
  mutable std::mutex mutex_;
  std::map<key, changes> parents_;
  std::uint64_t ended_ = 0;
};

}  // namespace sluice
