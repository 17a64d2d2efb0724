// Making completed writes and names durable; each wait is shared with others by the committer.
#pragma once

#include <cstdint>

#include "kernel/file_info.hpp"
#include "sluice/file.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class engine_core;
struct file_state;

// fsync of a directory: makes its names durable. code::durability_unknown when the kernel says no.
// Also where another sync of that filesystem was lost since there were `losses_before`
// (committer::losses): the kernel tells a descriptor once, and others may share it. The descriptor
// stays open until the answer.
[[nodiscard]] task<result<void>> sync_directory(engine_core& core, int directory_fd,
                                                std::uint64_t losses_before);

// Makes durable the directory's own name and those of all above it on its filesystem that somebody
// may have given just now (storage/new_directories.hpp): for who is about to promise that a name in
// it is.
[[nodiscard]] task<result<void>> keep_directory(engine_core& core, int directory_fd);

// file::commit, for who has no `file` at hand.
[[nodiscard]] task<result<void>> commit_writes(file_state& state);

// As file::commit, for a file whose name is given and synced next: it may share a syncfs.
[[nodiscard]] task<result<void>> commit_to_publish(file_state& state,
                                                   const kernel::inode_info& inode, modified when);

// `of` has become durable just now.
void note_durable(receipt& of);

// What a failed sync means for who asked for it.
[[nodiscard]] result<void> verdict_on_sync(std::int64_t outcome, const char* op);

}  // namespace sluice
