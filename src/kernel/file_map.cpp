#include "kernel/file_map.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <utility>

#include "kernel/page_cache.hpp"

namespace sluice::kernel {

result<file_map> file_map::make(int fd, std::uint64_t offset, std::size_t bytes) {
  const std::uint64_t from = page_floor(offset);
  const auto skip = static_cast<std::size_t>(offset - from);
  void* mapped = ::mmap(nullptr, skip + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                        static_cast<off_t>(from));
  if (mapped == MAP_FAILED) return fail(errno, "mmap");
  return file_map(static_cast<std::byte*>(mapped), skip + bytes, skip);
}

file_map::file_map(file_map&& other) noexcept
    : mapped_(std::exchange(other.mapped_, nullptr)),
      mapped_bytes_(other.mapped_bytes_),
      skip_(other.skip_) {}

file_map::~file_map() {
  if (mapped_ != nullptr) ::munmap(mapped_, mapped_bytes_);
}

std::uint64_t faults_of_thread() {
  rusage used{};
  if (::getrusage(RUSAGE_THREAD, &used) != 0) return 0;
  return static_cast<std::uint64_t>(used.ru_minflt) + static_cast<std::uint64_t>(used.ru_majflt);
}

}  // namespace sluice::kernel
