#include "storage/commit.hpp"

#include "ops/table.hpp"
#include "storage/file_state.hpp"

namespace sluice {
namespace {

// A sync that was not carried out says nothing about the disk; any other failure is final, because
// the kernel may have dropped the dirty pages and would say 0 next time (KERNEL-FACTS 22). ENOSPC
// and EDQUOT are of that class.
bool was_carried_out(int failure) {
  return failure != ECANCELED && failure != ETIMEDOUT && failure != code::no_thread;
}

}  // namespace

task<result<void>> file::commit() {
  file_state& state = *state_;
  state.core.counters().commit.waiters.add();
  if (state.durability_lost)
    co_return fail(code::durability_unknown, "fdatasync", "commit: an earlier sync failed");
  op_request request = on_file(state, op_kind::fsync);
  request.flags = fsync_data_only;
  op_await syncing(state.core.loop(), request);
  const result<std::size_t> synced = co_await syncing;
  if (synced) {
    state.core.counters().commit.syncs.add();
    co_return result<void>{};
  }
  if (!was_carried_out(synced.error().code)) co_return std::unexpected(synced.error());
  state.durability_lost = true;
  state.core.counters().commit.failures.add();
  co_return fail(code::durability_unknown, "fdatasync", code_name(synced.error().code));
}

task<result<void>> sync_directory(engine_core& core, int directory_fd) {
  op_request request;
  request.kind = op_kind::fsync;
  request.fd = directory_fd;
  op_await syncing(core.loop(), request);
  const result<std::size_t> synced = co_await syncing;
  if (synced) {
    core.counters().commit.syncs.add();
    co_return result<void>{};
  }
  if (!was_carried_out(synced.error().code)) co_return std::unexpected(synced.error());
  core.counters().commit.failures.add();
  co_return fail(code::durability_unknown, "fsync of the directory",
                 code_name(synced.error().code));
}

}  // namespace sluice
