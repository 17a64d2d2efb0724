// When to give memory back that many requests at once needed, and the idle do not. malloc keeps it:
// 9,900 requests at the same time leave 850 bytes for each of their connections.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sluiced {

class spare_memory {
 public:
  static constexpr std::uint64_t worthwhile = 256;  // so many busy at once leave something
  static constexpr std::uint64_t quiet_ratio = 8;

  void note(std::uint64_t busy) { peak_ = std::max(peak_, busy); }
  // There were many busy at once since the last time, and there are few now.
  [[nodiscard]] bool is_left(std::uint64_t busy) const {
    return peak_ >= worthwhile && busy * quiet_ratio <= peak_;
  }
  void given_back(std::uint64_t busy) { peak_ = busy; }

 private:
  std::uint64_t peak_ = 0;
};

}  // namespace sluiced
