#include "kernel/memory_map.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <utility>

namespace sluice::kernel {
namespace {

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

void* map_anonymous(std::size_t bytes, int extra_flags) {
  return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags,
                -1, 0);
}

}  // namespace

result<memory_map> memory_map::make(std::size_t bytes, page_wish wish) {
  const std::size_t huge_bytes = rounded_up(bytes, huge_page_bytes);
  if (wish != page_wish::small) {
    void* reserved = map_anonymous(huge_bytes, MAP_HUGETLB);
    if (reserved != MAP_FAILED) {
      ::madvise(reserved, huge_bytes, MADV_DONTFORK);
      return memory_map(static_cast<std::byte*>(reserved), huge_bytes, page_kind::reserved_huge);
    }
    if (wish == page_wish::huge_reserved)
      return fail(ENOMEM, "mmap", "arena of reserved huge pages");
  }
  void* mapped = map_anonymous(huge_bytes, 0);
  if (mapped == MAP_FAILED) return fail(errno, "mmap", "arena");
  ::madvise(mapped, huge_bytes, MADV_DONTFORK);
  const bool advised =
      wish != page_wish::small && ::madvise(mapped, huge_bytes, MADV_HUGEPAGE) == 0;
  return memory_map(static_cast<std::byte*>(mapped), huge_bytes,
                    advised ? page_kind::transparent_huge : page_kind::small);
}

memory_map::memory_map(memory_map&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), kind_(other.kind_) {}

memory_map::~memory_map() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

std::string memlock_limit_text() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return "unknown";
  const auto text = [](rlim_t value) {
    return value == RLIM_INFINITY ? std::string("unlimited") : std::to_string(value) + " bytes";
  };
  return text(limit.rlim_cur) + " (hard " + text(limit.rlim_max) + ")";
}

}  // namespace sluice::kernel
