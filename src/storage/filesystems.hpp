// What the filesystems of the files seen so far are: asked once for each mount, because a FUSE
// daemon or a server of the network that hangs keeps whoever asks waiting, and answered from here
// on the loop's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernel/file_info.hpp"

namespace sluice {

// Loop thread only.
class filesystems {
 public:
  // Of the mount that the file was opened by; nothing: it has to be asked (storage/look.hpp).
  [[nodiscard]] std::optional<kernel::filesystem_kind> find(const kernel::inode_info& of) const;
  void learn(const kernel::inode_info& of, kernel::filesystem_kind kind);

 private:
  struct entry {
    std::uint64_t mount = 0;
    std::uint64_t device = 0;
    std::uint64_t attributes = 0;
    kernel::filesystem_kind kind;

    [[nodiscard]] bool is_of(const kernel::inode_info& i) const {
      return mount == i.mount && device == i.device && attributes == i.attributes;
    }
  };
  std::vector<entry> seen_;
  std::size_t oldest_ = 0;  // once there are as many as are kept
};

}  // namespace sluice
