// Gives one file its name, by system calls that may wait for the disk: for a worker.
#pragma once

#include <string>

#include "kernel/fd.hpp"
#include "sluice/file.hpp"

namespace sluice {

// The file as it stands, and as name_file leaves it.
struct naming {
  int file_fd = -1;
  int directory_fd = -1;
  const char* name = "";
  existing_name existing = existing_name::replace;
  modified when = modified::as_written;
  bool unnamed = false;        // O_TMPFILE: linked; else renamed from its temporary name
  std::string temporary_name;  // "" while it has none
  kernel::unique_fd temporary_directory;
  bool replaced = false;  // another file had the name
};

// 0: it has the name, and no other. Else an errno, and the name is as it was: EEXIST with
// existing_name::keep; what linkat(2) and renameat2(2) say. Any thread.
[[nodiscard]] int name_file(naming& n);

// modified::now of an open file: 0, or an errno, and it keeps its time.
int date_now(int fd);

}  // namespace sluice
