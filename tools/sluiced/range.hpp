// The Range field with one range of bytes, RFC 9110 section 14.
#pragma once

#include <cstdint>
#include <string_view>

namespace sluiced {

enum class range_kind : std::uint8_t {
  whole,          // no range, several ranges, another unit, or not a range: 200 with everything
  part,           // 206
  unsatisfiable,  // 416
};

struct byte_range {
  range_kind kind = range_kind::whole;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// What to send of `size` bytes for the value of a Range field ("" when it was not sent).
[[nodiscard]] byte_range select_range(std::string_view field, std::uint64_t size);

}  // namespace sluiced
