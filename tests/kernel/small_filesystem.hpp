// A filesystem of a few MiB that a probe may fill, seen by nobody else.
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include <fstream>

#include "probe.hpp"

namespace probe {

inline void write_text(const char* path, const std::string& text) {
  std::ofstream(path) << text;  // a mapping that was not taken shows when the mount is refused
}

// Runs body(directory descriptor) in a child with a tmpfs of its own; the mount ends with the
// child. An ordinary user gets one through a user namespace, where the system allows it.
template <class Body>
void on_small_tmpfs(std::size_t bytes, Body&& body) {
  const temp_dir dir;
  in_child([&] {
    const unsigned user = ::geteuid();
    const unsigned group = ::getegid();
    const int namespaces = user == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS;
    if (::unshare(namespaces) < 0) skip("no mount namespace: " + in_words(-errno));
    if (user != 0) {
      write_text("/proc/self/setgroups", "deny");
      write_text("/proc/self/uid_map", "0 " + std::to_string(user) + " 1");
      write_text("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
    }
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
      skip("the mounts cannot be made private: " + in_words(-errno));
    }
    const std::string options = "mode=0700,size=" + std::to_string(bytes);
    if (::mount("none", dir.path().c_str(), "tmpfs", 0, options.c_str()) < 0) {
      skip("tmpfs cannot be mounted: " + in_words(-errno));
    }
    const descriptor root(static_cast<int>(
        must(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open of the mount")));
    body(root.get());
  });
}

// Mounts of its own, for a child of the superuser.
inline void private_mounts() {
  if (::unshare(CLONE_NEWNS) < 0) skip("no mount namespace: " + in_words(-errno));
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
    skip("the mounts cannot be made private: " + in_words(-errno));
  }
}

// The same with ext4 in a file, for the superuser alone: the loop device goes with the mount.
template <class Body>
void on_small_ext4(std::size_t bytes, Body&& body) {
  if (::geteuid() != 0) skip("mounting ext4 needs the superuser");
  const temp_dir dir;
  in_child([&] {
    private_mounts();
    const std::string image = (dir.path() / "image").string();
    const std::string root = (dir.path() / "root").string();
    must(::mkdir(root.c_str(), 0700), "mkdir");
    const descriptor file(
        static_cast<int>(must(::open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open")));
    must(::ftruncate(file.get(), static_cast<off_t>(bytes)), "ftruncate");
    const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; mkfs.ext4 -q -m 0 '" + image +
                                 "' && mount -o loop '" + image + "' '" + root + "'";
    if (std::system(commands.c_str()) != 0) skip("ext4 cannot be made and mounted here");
    const descriptor mounted(static_cast<int>(
        must(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open of the mount")));
    body(mounted.get());
  });
}

// The same on a tmpfs of `bytes`, four times smaller than the filesystem: once the folder below it
// is filled, writes to the disk fail. Body: (descriptor of the root, path of the tmpfs).
template <class Body>
void on_ext4_over_little_tmpfs(std::size_t bytes, Body&& body) {
  if (::geteuid() != 0) skip("mounting ext4 needs the superuser");
  const temp_dir dir;
  in_child([&] {
    private_mounts();
    const std::string below = (dir.path() / "below").string();
    const std::string root = (dir.path() / "root").string();
    must(::mkdir(below.c_str(), 0700), "mkdir");
    must(::mkdir(root.c_str(), 0700), "mkdir");
    const std::string size = "size=" + std::to_string(bytes);
    if (::mount("none", below.c_str(), "tmpfs", 0, size.c_str()) < 0) {
      skip("tmpfs cannot be mounted: " + in_words(-errno));
    }
    const std::string commands = "PATH=$PATH:/usr/sbin:/sbin; truncate -s " +
                                 std::to_string(4 * bytes) + " '" + below +
                                 "/image' && mkfs.ext4 -q -m 0 '" + below +
                                 "/image' && mount -o loop '" + below + "/image' '" + root + "'";
    if (std::system(commands.c_str()) != 0) skip("ext4 cannot be made and mounted here");
    const descriptor mounted(static_cast<int>(
        must(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open of the mount")));
    body(mounted.get(), below);
  });
}

}  // namespace probe
