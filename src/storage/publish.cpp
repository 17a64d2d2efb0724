// Giving durable bytes their final name. The order is the promise:
//   1. the file's data is synced            (or nothing is published)
//   2. the name appears, whole or not at all: linkat for a new one, renameat2 over an old one
//   3. the directory is synced              (or the caller is told that durability is unknown)
#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <string>
#include <utility>

#include "storage/commit.hpp"
#include "storage/file_state.hpp"

namespace sluice {
namespace {

bool is_one_component(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// Names the open file by its descriptor; AT_EMPTY_PATH would need a capability
// (kernel-notes/o_tmpfile_linkat_proc.md).
task<result<void>> link_unnamed(file_state& state, int directory_fd, const std::string& name) {
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(state.fd.get());
  op_request request;
  request.kind = op_kind::linkat;
  request.fd = AT_FDCWD;
  request.path = by_descriptor.c_str();
  request.fd2 = directory_fd;
  request.path2 = name.c_str();
  request.flags = AT_SYMLINK_FOLLOW;
  op_await linking(state.core.loop(), request);
  const result<std::size_t> linked = co_await linking;
  if (!linked) co_return fail(linked.error().code, "linkat", "publish");
  state.unnamed = false;
  co_return result<void>{};
}

// Gives an unnamed file a temporary name in the directory of the final one.
task<result<void>> link_temporarily(file_state& state, int directory_fd) {
  kernel::unique_fd kept(::fcntl(directory_fd, F_DUPFD_CLOEXEC, 0));
  if (!kept) co_return fail(errno, "fcntl", "publish: keeping the directory");
  std::string temporary = make_temporary_name();
  const result<void> linked = co_await link_unnamed(state, directory_fd, temporary);
  if (!linked) co_return linked;
  state.temporary_name = std::move(temporary);
  state.directory = std::move(kept);
  co_return result<void>{};
}

task<result<void>> rename_temporary(file_state& state, int directory_fd, const std::string& name,
                                    existing_name existing) {
  op_request request;
  request.kind = op_kind::renameat2;
  request.fd = state.directory.get();
  request.path = state.temporary_name.c_str();
  request.fd2 = directory_fd;
  request.path2 = name.c_str();
  request.flags = existing == existing_name::keep ? RENAME_NOREPLACE : 0;
  op_await renaming(state.core.loop(), request);
  const result<std::size_t> renamed = co_await renaming;
  if (!renamed) co_return fail(renamed.error().code, "renameat2", "publish");
  state.temporary_name.clear();
  state.directory.reset();
  co_return result<void>{};
}

task<result<void>> give_name(file_state& state, int directory_fd, const std::string& name,
                             existing_name existing) {
  if (state.unnamed) {
    const result<void> linked = co_await link_unnamed(state, directory_fd, name);
    if (linked) co_return linked;
    if (linked.error().code != EEXIST || existing == existing_name::keep) co_return linked;
    const result<void> temporarily = co_await link_temporarily(state, directory_fd);
    if (!temporarily) co_return temporarily;
  } else {
    // EINVAL: a filesystem without RENAME_NOREPLACE (rename(2)).
    const result<void> renamed =
        co_await rename_temporary(state, directory_fd, name, existing_name::keep);
    if (renamed || existing == existing_name::keep) co_return renamed;
    if (renamed.error().code != EEXIST && renamed.error().code != EINVAL) co_return renamed;
  }
  const result<void> replaced =
      co_await rename_temporary(state, directory_fd, name, existing_name::replace);
  if (replaced) state.core.counters().publish.replaced.add();
  co_return replaced;
}

}  // namespace

const char* name(durability d) { return d == durability::durable ? "durable" : "stored"; }

task<result<void>> publish(file& of, directory& in, std::string last_name,
                           publish_options options) {
  file_state& state = of.state();
  if (!is_one_component(last_name)) co_return fail(EINVAL, "publish", "not a single name");
  if (!state.unnamed && state.temporary_name.empty())
    co_return fail(EINVAL, "publish", "published already");
  if (options.wanted == durability::durable) {
    const result<void> committed = co_await of.commit();
    if (!committed) co_return committed;
  }
  const result<void> named = co_await give_name(state, in.fd(), last_name, options.existing);
  if (!named) co_return named;
  state.core.counters().publish.count.add();
  if (options.wanted != durability::durable) co_return result<void>{};
  const result<void> synced = co_await in.sync();
  // The name is there by now: a sync that was only cancelled leaves its durability as unknown as
  // one that failed, and ECANCELED would say that nothing had happened.
  if (!synced && synced.error().code == ECANCELED) {
    co_return fail(code::durability_unknown, "fsync of the directory", "publish: cancelled");
  }
  co_return synced;
}

}  // namespace sluice
