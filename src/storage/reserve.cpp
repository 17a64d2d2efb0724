#include "storage/reserve.hpp"

#include <cerrno>

#include "ops/table.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"

namespace sluice {
namespace {

struct free_space {
  int fd;
  std::uint64_t bytes = op_no_offset;

  static std::int64_t ask(void* space) {
    auto& s = *static_cast<free_space*>(space);
    s.bytes = kernel::free_bytes_beside(s.fd);
    return 0;
  }
};

}  // namespace

task<result<void>> reserve_space(file_state& state, std::uint64_t offset, std::uint64_t bytes,
                                 std::uint64_t& ops) {
  look_await looking(state.core, state.fd.get());
  const result<file_look> before = co_await looking;
  if (!before) co_return std::unexpected(before.error());
  // Not even tried when it cannot succeed: until it fails, an attempt takes all there is from
  // everybody else. A file with bytes may have the space already.
  std::uint64_t free_bytes = op_no_offset;
  if (before->inode.bytes == 0 && before->on.answers_at_once()) {
    free_bytes = kernel::free_bytes_beside(state.fd.get());
  } else if (before->inode.bytes == 0) {
    free_space beside{state.fd.get()};
    op_await asking(state.core.loop(), call_of(free_space::ask, &beside));
    const result<std::size_t> asked = co_await asking;
    if (!asked) co_return fail(asked.error().code, "fstatvfs", "reserve");
    free_bytes = beside.bytes;
  }
  if (bytes > free_bytes) {
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
  back.length = before->inode.bytes;
  op_await giving_back(state.core.loop(), back);
  const result<std::size_t> given_back = co_await giving_back;
  ops += giving_back.awaited().rounds;
  co_return fail(refusal, "fallocate", given_back ? "reserve" : "reserve: space kept");
}

}  // namespace sluice
