// The fields of an op_request as the kernel's calls take them, and what those answer as an op's
// result. For the rows of ops/table.cpp.
#pragma once

#include <limits.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "ops/table.hpp"
#include "sluice/op.hpp"

namespace sluice::ops {

[[nodiscard]] inline std::int64_t answer(long result) { return result < 0 ? -errno : result; }

[[nodiscard]] inline std::uint32_t clipped(std::uint64_t length) {
  return static_cast<std::uint32_t>(std::min(length, op_bytes_max));
}
[[nodiscard]] inline std::int64_t offset_of(const op_request& r) {
  return static_cast<std::int64_t>(r.offset);
}
[[nodiscard]] inline int flags_of(const op_request& r) { return static_cast<int>(r.flags); }
[[nodiscard]] inline const iovec* vectors(const op_request& r) {
  return static_cast<const iovec*>(r.data);
}
// More vectors than the kernel takes at once are a short result like any other.
[[nodiscard]] inline unsigned vector_count(const op_request& r) {
  return static_cast<unsigned>(std::min<std::uint64_t>(r.length, IOV_MAX));
}

}  // namespace sluice::ops
