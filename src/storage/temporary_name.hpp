// Names of files that are not published yet: how they are made, held, and swept up after processes
// that ended without removing theirs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

inline constexpr const char* temporary_prefix = ".sluice-tmp-";
[[nodiscard]] std::string make_temporary_name();

// Whoever uses a temporary name holds a lock on its file (flock(2)), which ends with the process.
// 0; EWOULDBLOCK: a sweeper has it. Filesystems without locks say ENOLCK, EOPNOTSUPP and the like;
// nothing is swept there.
[[nodiscard]] int hold_temporary(int fd);
void release_temporary(int fd);

// Makes a file under a temporary name, held: its descriptor, open for reading and writing, or
// -errno. Calls that may wait for the disk: for a worker.
[[nodiscard]] int make_temporary(int directory_fd, std::uint32_t mode, std::string& name);
// Takes hold of a file that was made under a temporary name just now: 0, or ESTALE when a sweeper
// was faster and the name is gone or goes soon.
[[nodiscard]] int hold_made(int fd);

// What sweep_directory found.
struct swept_directory {
  std::uint64_t removed = 0;
  std::vector<std::string> directories;  // in it, on the same filesystem
};

// Removes every temporary name in the directory that nobody holds. 0, or why it cannot be read.
// Reads all of it: for a worker.
[[nodiscard]] int sweep_directory(int directory_fd, swept_directory& found);

}  // namespace sluice
