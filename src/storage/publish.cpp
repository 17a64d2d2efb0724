// Giving durable bytes their final name. The order is the promise:
//   1. the file's data is synced            (or nothing is published)
//   2. the name appears, whole or not at all: linkat for a new one, renameat2 over an old one
//      (storage/naming.hpp), with those of others in one call of a worker
//   3. the directory is synced              (or the caller is told that durability is unknown)
// Shared with others in the committer's lanes, or all by one worker while few publish.
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <string>
#include <utility>

#include "ops/table.hpp"
#include "storage/commit.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/naming.hpp"
#include "storage/new_directories.hpp"
#include "storage/sync_turns.hpp"

namespace sluice {
namespace {

bool is_one_component(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

naming naming_of(file_state& state, int directory_fd, const std::string& name,
                 existing_name existing) {
  return {.file_fd = state.fd.get(),
          .directory_fd = directory_fd,
          .name = name.c_str(),
          .existing = existing,
          .unnamed = state.unnamed,
          .temporary_name = std::move(state.temporary_name),
          .temporary_directory = std::move(state.directory)};
}

// The file is as the naming left it.
void take_back(file_state& state, naming& done) {
  state.unnamed = done.unnamed;
  state.temporary_name = std::move(done.temporary_name);
  state.directory = std::move(done.temporary_directory);
}

result<void> named(file_state& state, const naming& done, int refusal) {
  if (refusal != 0) return fail(refusal, "linkat, renameat2", "publish");
  state.core.counters().publish.count.add();
  if (done.replaced) state.core.counters().publish.replaced.add();
  return {};
}

// The name is there: a sync of the directory that was not carried out leaves its durability as
// unknown as one that failed, and ECANCELED would say that nothing had happened.
result<void> named_and_synced(const result<void>& synced) {
  if (synced || synced.error().code == code::durability_unknown) return synced;
  return fail(code::durability_unknown, "fsync of the directory", "publish: not carried out");
}

// A whole publish, for one call of a worker: a hand-over to a thread and back costs some 70 us on
// two virtual CPUs, and there are three otherwise.
struct solo_publish {
  naming name;
  modified when = modified::as_written;
  committer::solo_directory* in = nullptr;
  bool begun = false;
  std::uint64_t losses_before = 0;
  // What each step said, 0 or an errno; those after one that failed are not taken.
  int data_failure = 0;
  int name_failure = 0;
  int directory_failure = 0;
};

int errno_of(int returned) { return returned == 0 ? 0 : errno; }

// In turn with other engines, too.
int sync_in_turn(int directory_fd, const sync_turns::key& directory) {
  const sync_turns::hold turn(sync_turns::of_process(), directory);
  return errno_of(::fsync(directory_fd));
}

// Solos of a directory take turns (committer::solo_directory): a name given while its directory is
// synced can hide that sync's error. A sync that says yes after another failed vouches for no name
// given before: its block may have gone with the other.
void name_and_sync(solo_publish& p, std::uint64_t failures_before) {
  committer::solo_directory& in = *p.in;
  const std::lock_guard turn(in.one_at_a_time);
  p.name_failure = name_file(p.name);
  if (p.name_failure != 0) return;
  p.directory_failure = sync_in_turn(p.name.directory_fd, {in.key.device, in.key.inode});
  if (p.directory_failure != 0) {
    ++in.failures;
  } else if (in.failures != failures_before) {
    p.directory_failure = EIO;
  }
}

// The call itself does not fail: what a sync said must not look like an interrupted call, which is
// repeated.
std::int64_t publish_on_worker(void* context) {
  auto& p = *static_cast<solo_publish*>(context);
  p.begun = true;
  const std::uint64_t failures_before = p.in->failures;
  if (p.when == modified::now) date_now(p.name.file_fd);
  p.data_failure = errno_of(::fdatasync(p.name.file_fd));
  if (p.data_failure == 0) {
    name_and_sync(p, failures_before);
  } else {
    ++p.in->failures;  // it may have had blocks of the directory to write, too
  }
  return 0;
}

result<void> published_solo(file_state& state, const solo_publish& p, int directory_fd,
                            std::uint64_t device) {
  committer& with = committer_of(state.core);
  state.core.counters().commit.waiters.add();
  with.note_sync(state.fd.get(), -p.data_failure);
  if (p.data_failure != 0) {
    state.durability_lost = true;
    return verdict_on_sync(-p.data_failure, "fdatasync");
  }
  state.core.counters().publish.batches.add();
  state.core.counters().publish.solo.add();
  const result<void> has_name = named(state, p.name, p.name_failure);
  if (!has_name) return has_name;
  with.note_sync(directory_fd, -p.directory_failure);
  state.core.counters().commit.waiters.add();
  const result<void> synced = verdict_on_sync(-p.directory_failure, "fsync of the directory");
  if (synced && with.lost_since(p.losses_before, device)) {
    return fail(code::durability_unknown, "fsync of the directory", "another was told");
  }
  return named_and_synced(synced);
}

task<result<void>> publish_solo(file_state& state, int directory_fd, const std::string& last_name,
                                const publish_options& options) {
  const result<kernel::inode_info> directory_inode = kernel::inode_of(directory_fd);
  if (!directory_inode) co_return std::unexpected(directory_inode.error());
  const committer::solo held(committer_of(state.core), *directory_inode);
  solo_publish all{.name = naming_of(state, directory_fd, last_name, options.existing),
                   .when = options.when,
                   .in = &held.in(),
                   .losses_before = committer_of(state.core).losses()};
  op_await working(state.core.loop(), call_of(publish_on_worker, &all));
  const result<std::size_t> done = co_await working;
  take_back(state, all.name);
  if (!all.begun) co_return fail(done.error().code, "fdatasync", "publish");
  co_return published_solo(state, all, directory_fd, directory_inode->device);
}

// A name to be given by the worker of a naming lane.
struct lane_naming {
  naming name;
  committer::solo_directory* beside = nullptr;  // solos under way there, or null
};

// In turn with the solos: a name given while one of them syncs can hide that sync's error.
int name_one(void* subject) {
  auto& n = *static_cast<lane_naming*>(subject);
  if (n.beside == nullptr) return name_file(n.name);
  const std::lock_guard turn(n.beside->one_at_a_time);
  return name_file(n.name);
}

task<result<void>> give_name(file_state& state, int directory_fd, const std::string& name,
                             const publish_options& options, std::uint64_t device) {
  lane_naming wanted{naming_of(state, directory_fd, name, options.existing),
                     committer_of(state.core).solos_in(directory_fd)};
  if (options.wanted == durability::stored) wanted.name.when = options.when;  // else with its data
  committer::turn_await turn(committer_of(state.core), {lane_kind::naming, device, 0});
  turn.wait.serve = name_one;
  turn.wait.subject = &wanted;
  const std::int64_t outcome = co_await turn;
  take_back(state, wanted.name);
  co_return named(state, wanted.name, static_cast<int>(-outcome));
}

result<void> check_trust(const file_state& state, const kernel::inode_info& inode) {
  const int refusal = committer_of(state.core).refusal(inode.device);
  if (refusal == 0) return {};
  state.core.counters().publish.refused.add();
  return fail(refusal, "publish", "an earlier sync failed");
}

// What can be said before anything is done.
result<void> check(const file_state& state, const std::string& name,
                   const kernel::inode_info& inode) {
  if (!is_one_component(name)) return fail(EINVAL, "publish", "not a single name");
  if (!state.unnamed && state.temporary_name.empty())
    return fail(EINVAL, "publish", "published already");
  return check_trust(state, inode);
}

task<result<void>> publish_at_all(file& of, directory& in, std::string last_name,
                                  publish_options options) {
  file_state& state = of.state();
  const transfer_claim claim(state, transfer_claim::hold::publish);
  if (!claim) co_return fail(EBUSY, "publish", "the file is being written, or published");
  const result<kernel::inode_info> inode = kernel::inode_of(state.fd.get());
  if (!inode) co_return std::unexpected(inode.error());
  const result<void> sound = check(state, last_name, *inode);
  if (!sound) co_return sound;
  const bool durable = options.wanted == durability::durable;
  if (durable && new_directories::of_process().any()) {
    const result<void> kept = co_await keep_directory(state.core, in.fd());
    if (!kept) co_return kept;
    const result<void> still_trusted = check_trust(state, *inode);
    if (!still_trusted) co_return still_trusted;
  }
  const std::uint64_t workers = state.core.values().pool.threads / 2;
  // A large one may take long to sync, and the lane of the directory waits for the solos in it.
  const bool small = inode->bytes < state.core.values().commit.bytes_max;
  if (durable && small && !state.durability_lost && committer_of(state.core).is_for_solo(workers)) {
    co_return co_await publish_solo(state, in.fd(), last_name, options);
  }
  const std::uint64_t losses_before = committer_of(state.core).losses();
  if (durable) {
    const result<void> committed = co_await commit_to_publish(state, *inode, options.when);
    if (!committed) co_return committed;
    const result<void> still_trusted = check_trust(state, *inode);
    if (!still_trusted) co_return still_trusted;
  }
  const result<void> has_name =
      co_await give_name(state, in.fd(), last_name, options, inode->device);
  if (!has_name || !durable) co_return has_name;
  co_return named_and_synced(co_await sync_directory(state.core, in.fd(), losses_before));
}

task<result<void>> publish_and_tell(file& of, directory& in, std::string last_name,
                                    publish_options options) {
  const result<void> published = co_await publish_at_all(of, in, std::move(last_name), options);
  if (published) note_durable(*options.of_content);
  co_return published;
}

}  // namespace

const char* name(durability d) { return d == durability::durable ? "durable" : "stored"; }

task<result<void>> publish(file& of, directory& in, std::string last_name,
                           publish_options options) {
  const bool tells = options.of_content != nullptr && options.wanted == durability::durable;
  if (!tells) return publish_at_all(of, in, std::move(last_name), options);
  return publish_and_tell(of, in, std::move(last_name), options);
}

}  // namespace sluice
