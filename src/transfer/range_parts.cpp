#include "transfer/range_parts.hpp"

#include <algorithm>

namespace sluice {

// Worked example, units of 512 and pages of 4096: [1000, 20000) of a file that others may write to.
// Head [1000, 4096), body [4096, 16384), tail [16384, 20000). At the end of a file of our own there
// is no tail: the body goes to 20000, is written up to 20480, and the file is cut again.
range_parts divide(const range_to_divide& range) {
  const std::uint64_t step = std::max(range.unit, range.page_bytes);
  const std::uint64_t end = range.offset + range.length;
  range_parts parts;
  // In a file of our own the direct writes may begin on any unit: no page has a second writer.
  const std::uint64_t begins_on = range.own ? range.unit : step;
  if (range.offset % begins_on != 0)
    parts.head =
        static_cast<std::size_t>(std::min<std::uint64_t>(step - range.offset % step, range.length));
  const bool at_end_of_own = range.own && end >= range.file_bytes;
  const std::uint64_t ends_on = range.own ? range.unit : step;
  const std::uint64_t left = range.length - parts.head;
  if (end % ends_on != 0 && !at_end_of_own)
    parts.tail = static_cast<std::size_t>(std::min<std::uint64_t>(end % step, left));
  parts.body = left - parts.tail;
  parts.padded = parts.body > 0 && parts.tail == 0 && end % range.unit != 0;
  return parts;
}

}  // namespace sluice
