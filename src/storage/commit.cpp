#include "storage/commit.hpp"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "ops/table.hpp"
#include "sluice/transfer.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"
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

// What a file without a name needs not, for nobody else has it.
sync_turns::key turn_of(const file_state& state) {
  if (state.made_here()) return {};
  const result<kernel::inode_info> inode = kernel::inode_of(state.fd.get());
  return inode ? sync_turns::key{inode->device, inode->inode} : sync_turns::key{};
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
  turn.wait.turn = turn_of(state);
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

void note_durable(receipt& of) {
  if (of.begun == std::chrono::steady_clock::time_point()) return;  // of no transfer
  of.durable = std::chrono::steady_clock::now() - of.begun;
}

namespace {

task<result<void>> commit_and_tell(file_state& state, receipt& of) {
  const result<void> committed = co_await commit_writes(state);
  if (committed) note_durable(of);
  co_return committed;
}

}  // namespace

task<result<void>> file::commit(receipt* of) {
  return of == nullptr ? commit_writes(*state_) : commit_and_tell(*state_, *of);
}

task<result<void>> commit_to_publish(file_state& state, const kernel::inode_info& inode,
                                     modified when) {
  committer& with = committer_of(state.core);
  if (with.groups() && !is_known(state.core, inode)) {
    look_await looking(state.core, state.fd.get());
    const result<file_look> seen = co_await looking;
    if (!seen) co_return std::unexpected(seen.error());
  }
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

// Enough for any path there is (PATH_MAX), should ".." lead round in a circle.
constexpr int levels_max = 2048;

// A directory above, whose sync is to cover a name given in it.
struct unsynced_directory {
  kernel::unique_fd fd;
  kernel::inode_info inode;
  std::uint64_t begun = 0;
};

struct way_up {
  int directory_fd;
  std::vector<unsynced_directory> unsynced;
};

// One level up, first without the permission to read it, which only the sync needs.
std::int64_t look_above(kernel::unique_fd& here, kernel::inode_info& inode, way_up& way,
                        int level) {
  kernel::unique_fd above(::openat(here.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!above) return level > 0 && errno == EACCES ? 0 : -errno;
  const result<kernel::inode_info> seen = kernel::inode_of(above.get());
  if (!seen) return -seen.error().code;
  const bool is_top = seen->device != inode.device || seen->inode == inode.inode;
  if (is_top) return 0;
  const auto begun = new_directories::of_process().unsynced_in(*seen);
  if (begun) {
    kernel::unique_fd readable(::openat(here.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!readable) return -errno;
    way.unsynced.push_back({std::move(readable), *seen, *begun});
  }
  here = std::move(above);
  inode = *seen;
  return 1;
}

// On a worker: 0 when it has looked at all that lie above on this filesystem. One that a sync has
// covered may itself be new, so it does not end at the first without an entry; where the next is
// not to be reached, nobody here has made anything in it either.
std::int64_t look_up(void* context) {
  auto& way = *static_cast<way_up*>(context);
  result<kernel::inode_info> inode = kernel::inode_of(way.directory_fd);
  if (!inode) return -inode.error().code;
  kernel::unique_fd here(::openat(way.directory_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here) return -errno;
  for (int level = 0; level < levels_max; ++level) {
    const std::int64_t seen = look_above(here, *inode, way, level);
    if (seen <= 0) return seen;
  }
  return -ELOOP;
}

}  // namespace

task<result<void>> keep_directory(engine_core& core, int directory_fd) {
  way_up way{directory_fd, {}};
  op_await looking(core.loop(), call_of(look_up, &way));
  const result<std::size_t> looked = co_await looking;
  if (!looked) co_return fail(looked.error().code, "open", "parent of a new directory");
  for (const unsynced_directory& above : way.unsynced) {
    const result<void> synced =
        co_await sync_directory(core, above.fd.get(), committer_of(core).cleared_losses());
    if (!synced) co_return synced;
    new_directories::of_process().synced(above.inode, above.begun);
  }
  co_return result<void>{};
}

}  // namespace sluice
