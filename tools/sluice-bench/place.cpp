#include "place.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bench {

namespace {

class opened {
 public:
  opened(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  opened(const opened&) = delete;
  opened& operator=(const opened&) = delete;
  ~opened() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

std::unexpected<std::string> problem(const std::string& what) {
  return std::unexpected(fmt::format("{}: {}", what, std::strerror(errno)));
}

using identities = std::unordered_map<std::uint64_t, std::uint64_t>;  // identity -> id

// Compares one file with the object it begins like, and takes that object off the list.
std::expected<void, std::string> verify_file(const pattern& payload, const std::string& file,
                                             std::uint64_t bytes, identities& missing) {
  const opened in(file, O_RDONLY);
  struct stat found{};
  if (in.fd() < 0 || ::fstat(in.fd(), &found) != 0) return problem(file);
  if (static_cast<std::uint64_t>(found.st_size) != bytes) {
    return std::unexpected(fmt::format("{}: {} bytes instead of {}", file, found.st_size, bytes));
  }
  static std::vector<std::byte> piece(std::size_t{1} << 20);
  std::uint64_t id = 0;
  for (std::uint64_t at = 0; at < bytes;) {
    const ssize_t got = ::read(in.fd(), piece.data(), piece.size());
    if (got <= 0) return problem(file);
    const std::span<const std::byte> seen(piece.data(), static_cast<std::size_t>(got));
    if (at == 0) {
      std::uint64_t word = 0;
      std::memcpy(&word, seen.data(), std::min(seen.size(), sizeof word));
      const auto known = missing.find(word);
      if (known == missing.end()) return std::unexpected(file + ": not an object of this run");
      id = known->second;
      missing.erase(known);
    }
    if (!payload.matches(id, at, seen)) {
      return std::unexpected(
          fmt::format("{}: wrong bytes in [{}, {})", file, at, at + seen.size()));
    }
    at += seen.size();
  }
  return {};
}

// Empties the file and moves it out of the way. An ext4 without a journal keeps the inodes of
// deleted files for minutes, and whoever makes a file meanwhile looks at each of them: with some
// thousands this was 60 % of the CPU of the runs that came after a run's clean-up
// (ext4_new_inode, recently_deleted). A file that cannot be moved is removed.
void retire(const std::filesystem::path& file, const std::string& retired) {
  static std::uint64_t count = 0;
  const std::string to = fmt::format("{}/{}.{}", retired, ::getpid(), count++);
  if (::truncate(file.c_str(), 0) == 0 && ::rename(file.c_str(), to.c_str()) == 0) return;
  std::error_code ignored;
  std::filesystem::remove_all(file, ignored);
}

// At most half of what is free: warming must not make the machine swap.
std::uint64_t bounded_by_memory(std::uint64_t bytes) {
  const auto pages = static_cast<std::uint64_t>(sysconf(_SC_AVPHYS_PAGES));
  return std::min(bytes, pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) / 2);
}

void touch_memory(std::uint64_t bytes) {
  void* const area =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) return;
  for (std::uint64_t at = 0; at < bytes; at += 4096) static_cast<char*>(area)[at] = 1;
  ::munmap(area, bytes);
}

}  // namespace

std::expected<scratch, std::string> scratch::make(const std::string& parent) {
  std::string path = parent + "/sluice-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return problem(parent);
  return scratch(path);
}

scratch::scratch(scratch&& other) noexcept : path_(std::exchange(other.path_, "")) {}

scratch& scratch::operator=(scratch&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

scratch::~scratch() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::string scratch::folder(const std::string& name) const {
  std::error_code ignored;
  std::filesystem::create_directories(path_ + "/" + name, ignored);
  return path_ + "/" + name;
}

std::expected<void, std::string> verify_and_retire(const pattern& payload,
                                                   const std::string& directory,
                                                   const expected_objects& wanted,
                                                   const std::string& retired) {
  identities missing;
  for (std::uint64_t id = wanted.first_id; id < wanted.first_id + wanted.count; ++id) {
    missing.emplace(payload.identity(id), id);
  }
  std::expected<void, std::string> verdict;
  std::error_code ignored;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    files.push_back(entry.path());
  }
  for (const auto& file : files) {
    if (verdict) verdict = verify_file(payload, file, wanted.bytes, missing);
    retire(file, retired);
  }
  if (verdict && !missing.empty()) {
    verdict = std::unexpected(
        fmt::format("{} of {} objects are missing in {}", missing.size(), wanted.count, directory));
  }
  return verdict;
}

std::expected<void, std::string> make_source(const pattern& payload, const std::string& file,
                                             std::uint64_t bytes) {
  const opened out(file, O_WRONLY | O_CREAT | O_TRUNC);
  if (out.fd() < 0) return problem(file);
  for (std::uint64_t at = 0; at < bytes;) {
    const auto piece = payload.piece(0, at, bytes - at);
    const ssize_t written = ::write(out.fd(), piece.data(), piece.size());
    if (written <= 0) return problem(file);
    at += static_cast<std::uint64_t>(written);
  }
  if (::fsync(out.fd()) != 0) return problem(file);
  return {};
}

void sync_filesystem(const std::string& directory) {
  const opened at(directory, O_RDONLY | O_DIRECTORY);
  if (at.fd() >= 0) ::syncfs(at.fd());
}

void warm_memory(const std::string& directory, std::uint64_t bytes) {
  bytes = bounded_by_memory(bytes);
  touch_memory(bytes);
  const std::string file = directory + "/warm";
  {
    const opened out(file, O_WRONLY | O_CREAT | O_TRUNC);
    const std::vector<char> zeroes(std::size_t{1} << 20);
    for (std::uint64_t at = 0; at < bytes; at += zeroes.size()) {
      if (::write(out.fd(), zeroes.data(), zeroes.size()) < 0) break;
    }
  }
  ::unlink(file.c_str());
  sync_filesystem(directory);
}

std::string filesystem_of(const std::string& directory) {
  struct statfs found{};
  if (::statfs(directory.c_str(), &found) != 0) return "unknown";
  struct known {
    unsigned long magic;
    const char* name;
  };
  static constexpr std::array names = {
      known{EXT4_SUPER_MAGIC, "ext4"},         known{TMPFS_MAGIC, "tmpfs"},
      known{XFS_SUPER_MAGIC, "xfs"},           known{BTRFS_SUPER_MAGIC, "btrfs"},
      known{OVERLAYFS_SUPER_MAGIC, "overlay"}, known{F2FS_SUPER_MAGIC, "f2fs"},
      known{FUSE_SUPER_MAGIC, "fuse"},         known{NFS_SUPER_MAGIC, "nfs"},
  };
  for (const known& one : names) {
    if (static_cast<unsigned long>(found.f_type) == one.magic) return one.name;
  }
  return fmt::format("{:#x}", found.f_type);
}

std::uint64_t free_bytes(const std::string& directory) {
  struct statvfs found{};
  if (::statvfs(directory.c_str(), &found) != 0) return 0;
  return static_cast<std::uint64_t>(found.f_bavail) * found.f_frsize;
}

}  // namespace bench
