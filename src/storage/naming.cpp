#include "storage/naming.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "storage/temporary_name.hpp"

namespace sluice {
namespace {

// Names the open file by its descriptor; AT_EMPTY_PATH would need a capability
// (kernel-notes/o_tmpfile_linkat_proc.md).
int link_unnamed(naming& n, const char* name) {
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(n.file_fd);
  if (::linkat(AT_FDCWD, by_descriptor.c_str(), n.directory_fd, name, AT_SYMLINK_FOLLOW) != 0) {
    return errno;
  }
  n.unnamed = false;
  return 0;
}

// A temporary name beside the final one: a link never replaces.
int link_temporarily(naming& n) {
  kernel::unique_fd kept(::fcntl(n.directory_fd, F_DUPFD_CLOEXEC, 0));
  if (!kept) return errno;
  std::string temporary = make_temporary_name();
  // Before the name is there: a sweeper finds it held.
  [[maybe_unused]] const int unheld = hold_temporary(n.file_fd);
  const int refusal = link_unnamed(n, temporary.c_str());
  if (refusal != 0) return refusal;
  n.temporary_name = std::move(temporary);
  n.temporary_directory = std::move(kept);
  return 0;
}

int rename_temporary(naming& n, unsigned flags) {
  if (::renameat2(n.temporary_directory.get(), n.temporary_name.c_str(), n.directory_fd, n.name,
                  flags) != 0) {
    return errno;
  }
  release_temporary(n.file_fd);
  n.temporary_name.clear();
  n.temporary_directory.reset();
  return 0;
}

}  // namespace

int name_file(naming& n) {
  int refusal = n.unnamed ? link_unnamed(n, n.name) : rename_temporary(n, RENAME_NOREPLACE);
  if (refusal == 0 || n.existing == existing_name::keep) return refusal;
  if (n.unnamed) {
    if (refusal != EEXIST) return refusal;
    refusal = link_temporarily(n);
    if (refusal != 0) return refusal;
  } else if (refusal != EEXIST && refusal != EINVAL) {
    return refusal;  // EINVAL: kernel-notes/rename_noreplace_may_be_einval.md
  }
  refusal = rename_temporary(n, 0);
  n.replaced = refusal == 0;
  return refusal;
}

}  // namespace sluice
