#include "storage/naming.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
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

void forget_temporary(naming& n) {
  release_temporary(n.file_fd);
  n.temporary_name.clear();
  n.temporary_directory.reset();
}

int rename_temporary(naming& n, unsigned flags) {
  if (::renameat2(n.temporary_directory.get(), n.temporary_name.c_str(), n.directory_fd, n.name,
                  flags) != 0) {
    return errno;
  }
  forget_temporary(n);
  return 0;
}

// For who must not replace, on a filesystem whose renames take no flags: a link never replaces. A
// temporary name that cannot be removed stays known, and goes when the file is closed.
int link_temporary(naming& n) {
  const int from = n.temporary_directory.get();
  if (::linkat(from, n.temporary_name.c_str(), n.directory_fd, n.name, 0) != 0) {
    return errno == EPERM ? EOPNOTSUPP : errno;  // EPERM: no links here either (link(2))
  }
  if (::unlinkat(from, n.temporary_name.c_str(), 0) == 0) forget_temporary(n);
  return 0;
}

}  // namespace

int date_now(int fd) {
  timespec now{};
  if (::clock_gettime(CLOCK_REALTIME, &now) != 0) return errno;
  const timespec access_and_change[2] = {{0, UTIME_OMIT}, now};
  return ::futimens(fd, access_and_change) == 0 ? 0 : errno;
}

int name_file(naming& n) {
  if (n.when == modified::now) date_now(n.file_fd);
  int refusal = n.unnamed ? link_unnamed(n, n.name) : rename_temporary(n, RENAME_NOREPLACE);
  // kernel-notes/rename_noreplace_may_be_einval.md
  const bool flag_refused = !n.unnamed && refusal == EINVAL;
  if (n.existing == existing_name::keep) return flag_refused ? link_temporary(n) : refusal;
  if (refusal != EEXIST && !flag_refused) return refusal;
  if (n.unnamed) {
    refusal = link_temporarily(n);
    if (refusal != 0) return refusal;
  }
  refusal = rename_temporary(n, 0);
  n.replaced = refusal == 0;
  return refusal;
}

}  // namespace sluice
