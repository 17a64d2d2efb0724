// Where the data of a run lies: folders of our own, what must be in them, what is found in them.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

#include "pattern.hpp"

namespace bench {

// A folder that goes away with everything in it.
class scratch {
 public:
  static std::expected<scratch, std::string> make(const std::string& parent);
  [[nodiscard]] static scratch none() { return scratch(""); }
  scratch(scratch&& other) noexcept;
  scratch& operator=(scratch&& other) noexcept;
  ~scratch();

  [[nodiscard]] const std::string& path() const { return path_; }
  // A new folder in it.
  [[nodiscard]] std::string folder(const std::string& name) const;

 private:
  explicit scratch(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// The objects of one run that a server must have written.
struct expected_objects {
  std::uint64_t first_id = 0;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;  // of each
};

// Every object there exactly once, with every byte in place; whatever it finds, the folder is empty
// afterwards, its files retired.
std::expected<void, std::string> verify_and_retire(const pattern& payload,
                                                   const std::string& directory,
                                                   const expected_objects& wanted,
                                                   const std::string& retired);

// Makes FILE, object 0 of the pattern, durable and in the page cache.
std::expected<void, std::string> make_source(const pattern& payload, const std::string& file,
                                             std::uint64_t bytes);

void sync_filesystem(const std::string& directory);

// A virtual machine gives memory to its guest at first touch, which costs many times more than the
// next: touch as much memory and page cache as the runs will, then give it back.
void warm_memory(const std::string& directory, std::uint64_t bytes);

[[nodiscard]] std::string filesystem_of(const std::string& directory);
[[nodiscard]] std::uint64_t free_bytes(const std::string& directory);

}  // namespace bench
