// A filesystem or a disk in a file, of which a copy may be taken at any moment: the copy holds what
// a power cut then would have left on the disk. For the superuser alone.
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "probe.hpp"

namespace probe {

inline bool command(const std::string& line) {
  return std::system(("PATH=$PATH:/usr/sbin:/sbin; " + line + " 2>/dev/null").c_str()) == 0;
}

// Runs body(folder) in a child; the folder is a tmpfs of `bytes` that ends with it.
template <class Body>
void in_memory_folder(std::size_t bytes, Body&& body) {
  if (::geteuid() != 0) skip("loop devices need the superuser");
  const temp_dir dir;
  in_child([&] {
    if (::unshare(CLONE_NEWNS) < 0) skip("no mount namespace: " + in_words(-errno));
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
      skip("the mounts cannot be made private: " + in_words(-errno));
    }
    const std::string options = "mode=0700,size=" + std::to_string(bytes);
    if (::mount("none", dir.path().c_str(), "tmpfs", 0, options.c_str()) < 0) {
      skip("tmpfs cannot be mounted: " + in_words(-errno));
    }
    body(dir.path());
  });
}

// ext4 in folder/image, mounted at root().
class disk_image {
 public:
  explicit disk_image(const std::filesystem::path& folder) : folder_(folder) {
    must(::mkdir(root().c_str(), 0700), "mkdir");
    must(::mkdir((folder_ / "later").c_str(), 0700), "mkdir");
    const std::string image = (folder_ / "image").string();
    const descriptor file(
        static_cast<int>(must(::open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), "open")));
    must(::ftruncate(file.get(), 16 << 20), "ftruncate");
    // commit=300: the journal is not written by itself while a probe runs.
    if (!command("mkfs.ext4 -q -m 0 '" + image + "'") ||
        !command("mount -o loop,commit=300 '" + image + "' '" + root().string() + "'")) {
      skip("ext4 cannot be made and mounted here");
    }
  }
  disk_image(const disk_image&) = delete;
  disk_image& operator=(const disk_image&) = delete;
  ~disk_image() { ::umount2(root().c_str(), MNT_DETACH); }

  [[nodiscard]] std::filesystem::path root() const { return folder_ / "root"; }

  // What a power cut at this moment would leave of the file `name`; nothing: no such name.
  [[nodiscard]] std::optional<std::string> after_power_cut(const std::string& name) const {
    const std::filesystem::path copy = folder_ / "copy";
    const std::filesystem::path later = folder_ / "later";
    std::filesystem::copy_file(folder_ / "image", copy,
                               std::filesystem::copy_options::overwrite_existing);
    if (!command("mount -o loop '" + copy.string() + "' '" + later.string() + "'")) {
      fail("the copy cannot be mounted");
    }
    std::optional<std::string> content;
    if (std::ifstream file(later / name); file) {
      content.emplace(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    must(::umount(later.c_str()), "umount");
    return content;
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace probe
