#include "storage/reserve.hpp"

#include <cerrno>

#include "storage/file_state.hpp"

namespace sluice {

task<result<void>> reserve_space(file_state& state, std::uint64_t offset, std::uint64_t bytes,
                                 std::uint64_t& ops) {
  const result<kernel::inode_info> before = kernel::inode_of(state.fd.get());
  if (!before) co_return std::unexpected(before.error());
  // Not even tried when it cannot succeed: until it fails, an attempt takes all there is from
  // everybody else. A file with bytes may have the space already.
  if (before->bytes == 0 && bytes > kernel::free_bytes_beside(state.fd.get())) {
    co_return fail(ENOSPC, "fallocate", "reserve: more than the filesystem has free");
  }
  op_request request = on_file(state, op_kind::fallocate);
  request.offset = offset;
  request.length = bytes;
  op_await reserving(state.core.loop(), request);
  const result<std::size_t> reserved = co_await reserving;
  ops += reserving.awaited().rounds;
  if (reserved) co_return result<void>{};
  const int refusal = reserved.error().code;
  if (refusal == EOPNOTSUPP || refusal == ENOSYS)
    co_return fail(EOPNOTSUPP, "fallocate", "reserve");
  // Gives back what the kernel took before it failed
  // (kernel-notes/failed_fallocate_may_keep_space.md); not where that could cut off what somebody
  // else writes to the file meanwhile.
  if (!state.made_here()) co_return fail(refusal, "fallocate", "reserve: space may be kept");
  op_request back = on_file(state, op_kind::ftruncate);
  back.length = before->bytes;
  op_await giving_back(state.core.loop(), back);
  const result<std::size_t> given_back = co_await giving_back;
  ops += giving_back.awaited().rounds;
  co_return fail(refusal, "fallocate", given_back ? "reserve" : "reserve: space kept");
}

}  // namespace sluice
