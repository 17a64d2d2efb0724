// A directory of one test's own, gone with everything in it at the end.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

// In TMPDIR, else in the working directory: the build folder lies on a real filesystem, where
// /tmp often does not.
class temp_dir {
 public:
  temp_dir() {
    const char* parent = std::getenv("TMPDIR");
    std::string made =
        (parent != nullptr ? std::string(parent) : std::string(".")) + "/sluice-test-XXXXXX";
    if (::mkdtemp(made.data()) == nullptr) throw std::runtime_error("mkdtemp " + made);
    path_ = std::filesystem::absolute(made);
    fd_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  temp_dir(const temp_dir&) = delete;
  temp_dir& operator=(const temp_dir&) = delete;
  ~temp_dir() {
    ::close(fd_);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string at(std::string_view name) const { return (path_ / name).string(); }
  [[nodiscard]] int fd() const { return fd_; }

  // An open file of that name; the caller closes it.
  [[nodiscard]] int open(std::string_view name, int flags = O_RDWR | O_CREAT) const {
    const int fd = ::open(at(name).c_str(), flags | O_CLOEXEC, 0600);
    if (fd < 0) throw std::runtime_error("open " + at(name));
    return fd;
  }
  void write(std::string_view name, std::string_view content) const {
    std::ofstream(at(name), std::ios::binary) << content;
  }
  [[nodiscard]] std::string read(std::string_view name) const {
    std::ifstream from(at(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(from), std::istreambuf_iterator<char>()};
  }
  [[nodiscard]] bool has(std::string_view name) const {
    return std::filesystem::exists(std::filesystem::symlink_status(at(name)));
  }
  [[nodiscard]] std::size_t entry_count() const {
    const auto entries = std::filesystem::directory_iterator(path_);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace support
