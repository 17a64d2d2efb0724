#include "base/frame_pool.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "sluice/task.hpp"

namespace {

using namespace sluice;
using detail::allocate_frame;
using detail::free_frame;

// On a thread of its own: what this one keeps is none of the test's business.
template <class Body>
void in_thread(Body body) {
  std::thread(body).join();
}

TEST_CASE("a frame that has ended is the next one of its size") {
  in_thread([] {
    CHECK(base::kept_bytes() == 0);
    void* const first = allocate_frame(200);
    std::memset(first, 1, 200);
    free_frame(first, 200);
    CHECK(base::kept_bytes() == 256);
    void* const other = allocate_frame(300);
    CHECK(other != first);
    void* const again = allocate_frame(193);
    CHECK(again == first);
    CHECK(base::kept_bytes() == 0);
    free_frame(again, 193);
    free_frame(other, 300);
    CHECK(base::kept_bytes() == 256 + 320);
  });
}

TEST_CASE("every size gets as much as it asks for") {
  in_thread([] {
    for (std::size_t bytes = 1; bytes <= base::frame_bytes_max + 200; bytes += 37) {
      for (int round = 0; round < 2; ++round) {
        void* const frame = allocate_frame(bytes);
        CHECK(reinterpret_cast<std::uintptr_t>(frame) % alignof(std::max_align_t) == 0);
        std::memset(frame, 0xab, bytes);
        free_frame(frame, bytes);
      }
    }
  });
}

TEST_CASE("what is kept has a bound, and large frames are not kept") {
  in_thread([] {
    void* const large = allocate_frame(base::frame_bytes_max + 1);
    free_frame(large, base::frame_bytes_max + 1);
    CHECK(base::kept_bytes() == 0);
    const auto keep_many = [](std::size_t bytes) {
      std::vector<void*> frames;
      for (std::size_t i = 0; i < 2 * base::kept_of_a_size_max / bytes; ++i)
        frames.push_back(allocate_frame(bytes));
      for (void* const frame : frames) free_frame(frame, bytes);
    };
    keep_many(1024);
    CHECK(base::kept_bytes() == base::kept_of_a_size_max);
    for (std::size_t bytes = 64; bytes <= base::frame_bytes_max; bytes += 64) keep_many(bytes);
    CHECK(base::kept_bytes() <= base::kept_bytes_max);
    CHECK(base::kept_bytes() > base::kept_bytes_max - base::frame_bytes_max);
  });
}

TEST_CASE("a frame may end on another thread, or while its own ends") {
  void* frame = nullptr;
  in_thread([&frame] { frame = allocate_frame(500); });
  in_thread([&frame] {
    free_frame(frame, 500);
    CHECK(base::kept_bytes() == 512);
  });
  struct late {
    void* frame = nullptr;
    ~late() { free_frame(frame, 500); }
  };
  in_thread([] {
    static thread_local late last;  // destroyed after the pool, which is made later
    last.frame = allocate_frame(500);
  });
}

task<int> nothing() { co_return 1; }

TEST_CASE("tasks take their frames from it") {
  in_thread([] {
    {
      const task<int> unused = nothing();
    }
    const std::size_t kept = base::kept_bytes();
    CHECK(kept > 0);
    const task<int> unused = nothing();
    CHECK(base::kept_bytes() < kept);
  });
}

}  // namespace
