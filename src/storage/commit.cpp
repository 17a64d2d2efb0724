#include "storage/commit.hpp"

#include <fcntl.h>

#include <cerrno>
#include <optional>

#include "ops/table.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/new_directories.hpp"

namespace sluice {

// A sync that was not carried out says nothing about the disk; any other failure is final, because
// the kernel may have dropped the dirty pages and would say 0 next time
// (kernel-notes/failed_sync_is_told_once.md). ENOSPC and EDQUOT are of that class.
result<void> verdict_on_sync(std::int64_t outcome, const char* op) {
  if (outcome >= 0) return {};
  const int failure = static_cast<int>(-outcome);
  if (!is_lost_sync(failure)) return fail(failure, op, "sync");
  return fail(code::durability_unknown, op, code_name(failure));
}

namespace {

// Asked after a sync that said yes: whether one that did not was told meanwhile, by this engine or
// another, and may have taken this one's error with it.
bool lost_meanwhile(const committer& with, int fd, std::uint64_t losses_before) {
  if (with.losses() == losses_before) return false;
  const result<kernel::inode_info> inode = kernel::inode_of(fd);
  return !inode || with.lost_since(losses_before, inode->device);
}

task<result<void>> commit_in(committer& with, lane_key lane, file_state& state, std::uint64_t bytes,
                             modified when) {
  state.core.counters().commit.waiters.add();
  if (state.durability_lost)
    co_return fail(code::durability_unknown, "fdatasync", "commit: an earlier sync failed");
  if (const int refusal = with.refusal(); refusal != 0)
    co_return fail(refusal, "fdatasync", "commit");
  const std::uint64_t losses_before = with.losses();
  committer::turn_await turn(with, lane);
  turn.wait.fd = state.fd.get();
  turn.wait.bytes = bytes;
  turn.wait.when = when;
  const result<void> synced = verdict_on_sync(co_await turn, "fdatasync");
  if (!synced && synced.error().code == code::durability_unknown) state.durability_lost = true;
  if (synced && lost_meanwhile(with, state.fd.get(), losses_before)) state.durability_lost = true;
  // Also one that began between the failure of another and the moment its waiters were told: it
  // took the error with it.
  if (synced && state.durability_lost)
    co_return fail(code::durability_unknown, "fdatasync", "commit: another sync failed");
  co_return synced;
}

}  // namespace

task<result<void>> commit_writes(file_state& state) {
  const lane_key own{lane_kind::file, 0, reinterpret_cast<std::uintptr_t>(&state)};
  co_return co_await commit_in(committer_of(state.core), own, state, 0, modified::as_written);
}

task<result<void>> file::commit() { return commit_writes(*state_); }

task<result<void>> commit_to_publish(file_state& state, const kernel::inode_info& inode,
                                     modified when) {
  committer& with = committer_of(state.core);
  co_return co_await commit_in(with, with.data_lane(state, inode), state, inode.bytes, when);
}

task<result<void>> file::commit_to_publish(modified when) {
  const transfer_claim claim(*state_, transfer_claim::hold::publish);
  if (!claim) co_return fail(EBUSY, "publish", "the file is being written, or published");
  const result<kernel::inode_info> inode = kernel::inode_of(state_->fd.get());
  if (!inode) co_return std::unexpected(inode.error());
  co_return co_await sluice::commit_to_publish(*state_, *inode, when);
}

task<result<void>> sync_directory(engine_core& core, int directory_fd,
                                  std::uint64_t losses_before) {
  core.counters().commit.waiters.add();
  const result<kernel::inode_info> inode = kernel::inode_of(directory_fd);
  if (!inode) co_return std::unexpected(inode.error());
  committer& with = committer_of(core);
  committer::turn_await turn(with, {lane_kind::directory, inode->device, inode->inode});
  turn.wait.fd = directory_fd;
  const result<void> synced = verdict_on_sync(co_await turn, "fsync of the directory");
  if (synced && with.lost_since(losses_before, inode->device)) {
    co_return fail(code::durability_unknown, "fsync of the directory", "another was told");
  }
  co_return synced;
}

namespace {

struct parent_of {
  int directory_fd;
  int flags;
};

// On a worker: 0 and up is a descriptor.
std::int64_t open_parent(void* context) {
  const auto& of = *static_cast<parent_of*>(context);
  const int fd = ::openat(of.directory_fd, "..", of.flags | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

task<result<kernel::unique_fd>> parent(engine_core& core, int directory_fd, int flags) {
  parent_of wanted{directory_fd, flags};
  op_await opening(core.loop(), call_of(open_parent, &wanted));
  const result<std::size_t> opened = co_await opening;
  if (!opened) co_return fail(opened.error().code, "open", "parent of a new directory");
  co_return kernel::unique_fd(static_cast<int>(*opened));
}

}  // namespace

// First without the permission to read it, which only the sync needs.
task<result<void>> keep_directory(engine_core& core, int directory_fd) {
  new_directories& fresh = new_directories::of_process();
  const result<kernel::unique_fd> above = co_await parent(core, directory_fd, O_PATH);
  if (!above) co_return std::unexpected(above.error());
  const result<kernel::inode_info> inode = kernel::inode_of(above->get());
  if (!inode) co_return std::unexpected(inode.error());
  const std::optional<std::uint64_t> begun = fresh.unsynced_in(*inode);
  if (!begun) co_return result<void>{};
  const result<kernel::unique_fd> readable = co_await parent(core, directory_fd, O_RDONLY);
  if (!readable) co_return std::unexpected(readable.error());
  const result<void> synced =
      co_await sync_directory(core, readable->get(), committer_of(core).cleared_losses());
  if (synced) fresh.synced(*inode, *begun);
  co_return synced;
}

}  // namespace sluice
