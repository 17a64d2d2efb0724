// File to file: a range of one file into another, past our memory where the kernel can.
#pragma once

#include <chrono>
#include <cstdint>

#include "sluice/api.hpp"
#include "sluice/file.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"
#include "sluice/transfer.hpp"

namespace sluice {

struct copy_options {
  std::uint64_t length = 0;         // of the range, in bytes
  std::uint64_t source_offset = 0;  // in `from`
  std::uint64_t target_offset = 0;  // in `into`
  // direct: by sharing blocks, or the copy is refused. drop_behind and dontcache: the pages of both
  // ranges are dropped behind the copy, others' of the source too, and those of `into` written
  // back.
  cache_policy cache = cache_policy::automatic;
  std::chrono::nanoseconds deadline{};  // for the whole, as that of every transfer: transfer.hpp
};

// Makes [target_offset, target_offset + length) of `into` equal to the range of `from`: holes stay
// holes, and what was there before is gone. `into` grows when it has to, by an empty range never,
// and may be the same file when the ranges do not meet. By sharing blocks where the filesystem can,
// else by copy_file_range(2), else through a block of the buffer pool (sluice.copy.path); the
// receipt says which, and why. Not durable: see file::commit.
//
// Errors: code::end_of_stream when `from` ends before the range, or is cut meanwhile; EINVAL for a
// range past 2^63 and for two ranges that meet in one file; EBADF when `into` is not open for
// writing or either is closed; EBUSY while another transfer has `into`, or has `from` alone;
// ENOSPC, EDQUOT, EIO, ECANCELED, ETIMEDOUT (the deadline has passed), ENOBUFS (no block became
// free in twice sluice.receive.timeout_ms); code::path_unavailable when sluice.copy.path or the
// cache policy asks for a way that cannot copy between these files. After an error the range is in
// part the new, in part the old: `bytes` of `progress`, when given the receipt so far, counts what
// is equal from its beginning, and is 0 when pages that were dropped could not be written back. A
// cancel, or a deadline, waits for the call under way, which moves sluice.copy.chunk_bytes, shares
// up to 1 GiB of blocks, or writes back and drops 4 * sluice.storage.drop_bytes. Loop thread. Both
// files must belong to one engine and live until the end. Their descriptors' own positions may be
// moved.
[[nodiscard]] SLUICE_API task<result<receipt>> copy_file(file& from, file& into,
                                                         copy_options options,
                                                         receipt* progress = nullptr);

}  // namespace sluice
