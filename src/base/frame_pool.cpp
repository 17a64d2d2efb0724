#include "base/frame_pool.hpp"

#include <array>
#include <new>

#include "base/poison.hpp"
#include "sluice/task.hpp"

namespace sluice::base {
namespace {

constexpr std::size_t class_bytes = 64;

struct kept_frame {
  kept_frame* next;
};

constexpr std::size_t class_of(std::size_t bytes) {
  return (bytes + class_bytes - 1) / class_bytes;
}

// Frames that end while their thread does, after this has gone, go straight back.
enum class life : unsigned char { unborn, lives, over };
thread_local constinit life keeper_life = life::unborn;

// By size, the one that ended last on top: it is warm.
class keeper {
 public:
  keeper() noexcept { keeper_life = life::lives; }
  keeper(const keeper&) = delete;
  keeper& operator=(const keeper&) = delete;
  ~keeper() {
    keeper_life = life::over;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      while (void* const frame = take(i)) ::operator delete(frame, i * class_bytes);
    }
  }

  void* take(std::size_t index) noexcept {
    kept_frame* const frame = kept_[index];
    if (frame == nullptr) return nullptr;
    unpoison(reinterpret_cast<std::byte*>(frame), index * class_bytes);
    kept_[index] = frame->next;
    --counts_[index];
    bytes_ -= index * class_bytes;
    return frame;
  }
  // False: it has enough.
  bool keep(void* memory, std::size_t index) noexcept {
    if (bytes_ + index * class_bytes > kept_bytes_max) return false;
    if (counts_[index] * index * class_bytes >= kept_of_a_size_max) return false;
    auto* const frame = ::new (memory) kept_frame{kept_[index]};
    kept_[index] = frame;
    ++counts_[index];
    bytes_ += index * class_bytes;
    poison(reinterpret_cast<std::byte*>(frame), index * class_bytes);
    return true;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::array<kept_frame*, class_of(frame_bytes_max) + 1> kept_{};
  std::array<std::size_t, class_of(frame_bytes_max) + 1> counts_{};
  std::size_t bytes_ = 0;
};

keeper* keeper_of_thread() noexcept {
  if (keeper_life == life::over) return nullptr;
  static thread_local keeper own;
  return &own;
}

}  // namespace

std::size_t kept_bytes() noexcept {
  const keeper* const own = keeper_of_thread();
  return own == nullptr ? 0 : own->bytes();
}

}  // namespace sluice::base

namespace sluice::detail {

using namespace base;

void* allocate_frame(std::size_t bytes) {
  const std::size_t index = class_of(bytes);
  if (bytes > frame_bytes_max) return ::operator new(bytes);
  if (keeper* const own = keeper_of_thread()) {
    if (void* const frame = own->take(index)) return frame;
  }
  return ::operator new(index * class_bytes);
}

void free_frame(void* frame, std::size_t bytes) noexcept {
  if (bytes > frame_bytes_max) return ::operator delete(frame, bytes);
  const std::size_t index = class_of(bytes);
  keeper* const own = keeper_of_thread();
  if (own == nullptr || !own->keep(frame, index)) ::operator delete(frame, index * class_bytes);
}

}  // namespace sluice::detail
