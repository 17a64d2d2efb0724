// Giving durable bytes their final name. The order is the promise:
//   1. the file's data is synced            (or nothing is published)
//   2. the name appears, whole or not at all: linkat for a new one, renameat2 over an old one
//      (storage/naming.hpp), with those of others in one call of a worker
//   3. the directory is synced              (or the caller is told that durability is unknown)
#include <cerrno>
#include <string>
#include <utility>

#include "storage/commit.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/naming.hpp"

namespace sluice {
namespace {

bool is_one_component(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

int name_one(void* subject) { return name_file(*static_cast<naming*>(subject)); }

task<result<void>> give_name(file_state& state, int directory_fd, const std::string& name,
                             existing_name existing, std::uint64_t device) {
  naming wanted{.file_fd = state.fd.get(),
                .directory_fd = directory_fd,
                .name = name.c_str(),
                .existing = existing,
                .unnamed = state.unnamed,
                .temporary_name = std::move(state.temporary_name),
                .temporary_directory = std::move(state.directory)};
  committer::turn_await turn(committer_of(state.core), {lane_kind::naming, device, 0});
  turn.wait.serve = name_one;
  turn.wait.subject = &wanted;
  const std::int64_t outcome = co_await turn;
  state.unnamed = wanted.unnamed;
  state.temporary_name = std::move(wanted.temporary_name);
  state.directory = std::move(wanted.temporary_directory);
  if (outcome < 0) co_return fail(static_cast<int>(-outcome), "linkat, renameat2", "publish");
  state.core.counters().publish.count.add();
  if (wanted.replaced) state.core.counters().publish.replaced.add();
  co_return result<void>{};
}

// What can be said before anything is done.
result<void> check(const file_state& state, const std::string& name,
                   const kernel::inode_info& inode) {
  if (!is_one_component(name)) return fail(EINVAL, "publish", "not a single name");
  if (!state.unnamed && state.temporary_name.empty())
    return fail(EINVAL, "publish", "published already");
  const int refusal = committer_of(state.core).refusal(inode.device);
  if (refusal == 0) return {};
  state.core.counters().publish.refused.add();
  return fail(refusal, "publish", "an earlier sync failed");
}

}  // namespace

const char* name(durability d) { return d == durability::durable ? "durable" : "stored"; }

task<result<void>> publish(file& of, directory& in, std::string last_name,
                           publish_options options) {
  file_state& state = of.state();
  const result<kernel::inode_info> inode = kernel::inode_of(state.fd.get());
  if (!inode) co_return std::unexpected(inode.error());
  const result<void> sound = check(state, last_name, *inode);
  if (!sound) co_return sound;
  if (options.wanted == durability::durable) {
    const result<void> committed = co_await commit_to_publish(state, *inode);
    if (!committed) co_return committed;
  }
  const result<void> named =
      co_await give_name(state, in.fd(), last_name, options.existing, inode->device);
  if (!named || options.wanted != durability::durable) co_return named;
  const result<void> synced = co_await in.sync();
  // The name is there by now: a sync that was not carried out leaves its durability as unknown as
  // one that failed, and ECANCELED would say that nothing had happened.
  if (!synced && synced.error().code != code::durability_unknown) {
    co_return fail(code::durability_unknown, "fsync of the directory", "publish: not carried out");
  }
  co_return synced;
}

}  // namespace sluice
