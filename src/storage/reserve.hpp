// Taking space for a file before its bytes come.
#pragma once

#include <cstdint>

#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

struct file_state;

// Allocates [offset, offset + bytes) and lets the file grow to its end. ENOSPC and EDQUOT leave a
// file that create() made as it was, and another one perhaps longer; EOPNOTSUPP: the filesystem
// cannot. `ops` grows by the operations that it took.
[[nodiscard]] task<result<void>> reserve_space(file_state& state, std::uint64_t offset,
                                               std::uint64_t bytes, std::uint64_t& ops);

}  // namespace sluice
