#include "disk_check.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>

namespace bt {

namespace {
constexpr std::size_t read_bytes = 256 << 10;  // stays in the cache between reading and hashing
}

void forget_cached(std::span<const int> descriptors) {
  for (const int fd : descriptors) {
    if (fd == no_descriptor) continue;
    // No filesystem refuses it: it is advice, and memory that is all the disk there is stays.
    static_cast<void>(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  }
}

disk_reader::disk_reader(const layout& of, std::span<const int> descriptors)
    : layout_(of), descriptors_(descriptors), memory_(read_bytes) {}

std::expected<sha1_digest, int> disk_reader::digest_of(std::uint32_t piece) {
  int problem = 0;
  layout_.for_each(layout_.piece_offset(piece), layout_.bytes_of(piece), [&](segment part) {
    if (descriptors_[part.file] == no_descriptor) hash_zeroes(part.bytes);
    while (descriptors_[part.file] != no_descriptor && part.bytes > 0 && problem == 0) {
      const std::size_t wanted = std::min<std::uint64_t>(part.bytes, memory_.size());
      const ssize_t got =
          ::pread(descriptors_[part.file], memory_.data(), wanted, static_cast<off_t>(part.offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        problem = got < 0 ? errno : ENODATA;
        break;
      }
      hash_.update(std::span(memory_).first(static_cast<std::size_t>(got)));
      part.offset += static_cast<std::uint64_t>(got);
      part.bytes -= static_cast<std::uint64_t>(got);
    }
    return problem == 0;
  });
  const sha1_digest digest = hash_.finish();
  if (problem != 0) return std::unexpected(problem);
  return digest;
}

void disk_reader::hash_zeroes(std::uint64_t bytes) {
  std::ranges::fill(std::span(memory_).first(std::min<std::uint64_t>(bytes, memory_.size())),
                    std::byte{0});
  while (bytes > 0) {
    const std::size_t some = std::min<std::uint64_t>(bytes, memory_.size());
    hash_.update(std::span(memory_).first(some));
    bytes -= some;
  }
}

bool disk_reader::is_hole(std::uint32_t piece) const {
  return layout_.for_each(
      layout_.piece_offset(piece), layout_.bytes_of(piece), [&](const segment& part) {
        if (descriptors_[part.file] == no_descriptor) return true;
        const off_t data =
            ::lseek(descriptors_[part.file], static_cast<off_t>(part.offset), SEEK_DATA);
        if (data < 0) return errno == ENXIO;  // nothing but a hole up to the end
        return static_cast<std::uint64_t>(data) >= part.offset + part.bytes;
      });
}

const sha1_digest& disk_reader::digest_of_hole(std::uint32_t piece) {
  const std::uint64_t bytes = layout_.bytes_of(piece);
  if (std::exchange(hole_bytes_, bytes) == bytes) return hole_digest_;
  hash_zeroes(bytes);
  hole_digest_ = hash_.finish();
  return hole_digest_;
}

}  // namespace bt
