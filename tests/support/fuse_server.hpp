// Serves a filesystem of ours at a mount point until it is unmounted. One thread: requests are
// answered in the order in which they are counted or logged.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 35
#endif
#include <fuse.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <string>

namespace support {

// What a system call returned, as FUSE is told it.
inline int told(long returned) { return returned < 0 ? -errno : static_cast<int>(returned); }

// Out of the mounts of whoever started us. The last process to leave a mount namespace unmounts
// what is in it: were that this server, it would wait for ever for itself to store what a
// filesystem above still has to write. Without CAP_SYS_ADMIN nobody mounts anything above.
inline bool leave_mounts(const char* mount_point) {
  if (::unshare(CLONE_NEWNS) != 0) return errno == EPERM;
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::umount2(mount_point, MNT_DETACH) == 0;
}

// The exit status. `options` as in mount -o.
inline int serve_fuse(const fuse_operations& operations, std::string options,
                      const char* mount_point) {
  std::string program = "fuse_server";
  std::string flag = "-o";
  char* arguments[] = {program.data(), flag.data(), options.data()};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  fuse* filesystem = ::fuse_new(&args, &operations, sizeof operations, nullptr);
  if (filesystem == nullptr || ::fuse_mount(filesystem, mount_point) != 0) return 1;
  if (!leave_mounts(mount_point)) return 1;
  const int ended = ::fuse_loop(filesystem);
  ::fuse_unmount(filesystem);
  ::fuse_destroy(filesystem);
  ::fuse_opt_free_args(&args);
  return ended == 0 ? 0 : 1;
}

}  // namespace support
