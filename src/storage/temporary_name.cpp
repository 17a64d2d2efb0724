#include "storage/temporary_name.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string_view>

#include "kernel/fd.hpp"

namespace sluice {
namespace {

struct close_directory {
  void operator()(DIR* d) const { ::closedir(d); }
};
using open_directory = std::unique_ptr<DIR, close_directory>;

// A description of its own: the position of the caller's is left alone.
open_directory open_for_reading(int directory_fd) {
  const int fd = ::openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  DIR* opened = ::fdopendir(fd);
  if (opened == nullptr) ::close(fd);
  return open_directory(opened);
}

// Removes the name when its holder is gone. Held while it is removed, so that its maker, who takes
// hold right after making it, sees that it is gone.
bool remove_unheld(int directory_fd, const char* name) {
  const kernel::unique_fd file(
      ::openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file) return false;
  struct stat info{};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  if (hold_temporary(file.get()) != 0) return false;
  return ::unlinkat(directory_fd, name, 0) == 0;
}

bool is_directory_here(int directory_fd, const dirent& entry, dev_t device) {
  const std::string_view name = entry.d_name;
  if (name == "." || name == "..") return false;
  if (entry.d_type != DT_DIR && entry.d_type != DT_UNKNOWN) return false;
  struct stat info{};
  return ::fstatat(directory_fd, entry.d_name, &info, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 &&
         S_ISDIR(info.st_mode) && info.st_dev == device;
}

}  // namespace

std::string make_temporary_name() {
  std::array<unsigned char, 8> random{};
  [[maybe_unused]] const auto bytes = ::getrandom(random.data(), random.size(), 0);
  std::string name = temporary_prefix;
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

int hold_temporary(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno; }

void release_temporary(int fd) { ::flock(fd, LOCK_UN); }

int hold_made(int fd) {
  if (hold_temporary(fd) == EWOULDBLOCK) return ESTALE;
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errno;
  return info.st_nlink > 0 ? 0 : ESTALE;
}

int make_temporary(int directory_fd, std::uint32_t mode, std::string& name) {
  constexpr int attempts =
      8;  // a sweeper that comes in between so often is not at work but in a loop
  for (int i = 0; i < attempts; ++i) {
    name = make_temporary_name();
    kernel::unique_fd made(
        ::openat(directory_fd, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode));
    if (!made) return -errno;
    const int refusal = hold_made(made.get());
    if (refusal == 0) return made.release();
    if (refusal != ESTALE) return -refusal;
  }
  return -EBUSY;
}

int sweep_directory(int directory_fd, swept_directory& found) {
  struct stat own{};
  if (::fstat(directory_fd, &own) != 0) return errno;
  const open_directory entries = open_for_reading(directory_fd);
  if (!entries) return errno;
  errno = 0;
  while (const dirent* entry = ::readdir(entries.get())) {
    if (std::string_view(entry->d_name).starts_with(temporary_prefix)) {
      if (remove_unheld(directory_fd, entry->d_name)) ++found.removed;
    } else if (is_directory_here(directory_fd, *entry, own.st_dev)) {
      found.directories.emplace_back(entry->d_name);
    }
    errno = 0;
  }
  return errno;
}

}  // namespace sluice
