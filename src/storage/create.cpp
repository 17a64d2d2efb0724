// Files without a name yet: by O_TMPFILE, or where that is missing under a temporary name.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "kernel/file_info.hpp"
#include "ops/table.hpp"
#include "storage/beneath.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/temporary_name.hpp"

namespace sluice {
namespace {

constexpr std::uint32_t file_mode = 0666;  // the process's umask takes from it
constexpr int unnamed_flags = O_TMPFILE | O_RDWR;

// What a filesystem without O_TMPFILE says: it takes the flags for an attempt to write a directory
// (open(2)).
bool lacks_unnamed_files(int refusal) {
  return refusal == EOPNOTSUPP || refusal == EISDIR || refusal == EINVAL || refusal == ENOENT;
}

// Nobody should send bytes to a disk where they cannot be published.
result<void> check_trust(engine_core& core, int directory_fd) {
  const committer& commits = committer_of(core);
  if (!commits.refuses_somewhere()) return {};
  const result<kernel::inode_info> inode = kernel::inode_of(directory_fd);
  if (!inode) return std::unexpected(inode.error());
  const int refusal = commits.refusal(inode->device);
  if (refusal == 0) return {};
  core.counters().publish.refused.add();
  return fail(refusal, "open", "create: an earlier sync failed");
}

file unnamed_file(engine_core& core, kernel::unique_fd fd) {
  auto state = std::make_unique<file_state>(core, std::move(fd));
  state->writable = true;
  state->unnamed = true;
  return file(std::move(state));
}

struct temporary_request {
  int directory_fd;
  std::string name;
};

std::int64_t make_temporary_on_worker(void* context) {
  auto* wanted = static_cast<temporary_request*>(context);
  return make_temporary(wanted->directory_fd, file_mode, wanted->name);
}

task<result<file>> create_named(engine_core& core, int directory_fd) {
  kernel::unique_fd parent(::fcntl(directory_fd, F_DUPFD_CLOEXEC, 0));
  if (!parent) co_return fail(errno, "fcntl", "create: keeping the directory");
  temporary_request wanted{parent.get(), {}};
  op_await making(core.loop(), call_of(make_temporary_on_worker, &wanted));
  const result<std::size_t> made = co_await making;
  if (!made) co_return fail(made.error().code, "openat", "create: under a temporary name");
  auto state = std::make_unique<file_state>(core, kernel::unique_fd(static_cast<int>(*made)));
  state->writable = true;
  state->temporary_name = std::move(wanted.name);
  state->directory = std::move(parent);
  co_return file(std::move(state));
}

// directory::create_for in one call of a worker.
struct look_and_create {
  const opening_beneath& look;
  const opening_beneath* create;  // null: only the look is for this call
  // Descriptors, or -errno; the second is not tried when the first failed but for ENOENT.
  std::int64_t looked = -ECANCELED;
  std::int64_t made = -EOPNOTSUPP;
  result<kernel::inode_info> current = fail(ECANCELED, "statx", "create_for");  // of looked
};

std::int64_t look_and_create_on_worker(void* context) {
  auto& both = *static_cast<look_and_create*>(context);
  both.looked = both.look.perform();
  if (both.looked >= 0) both.current = kernel::inode_now(static_cast<int>(both.looked));
  if (both.create == nullptr || (both.looked < 0 && both.looked != -ENOENT)) return 0;
  both.made = both.create->perform();
  return 0;
}

}  // namespace

task<result<file>> directory::create() {
  if (const result<void> wanted = check_trust(*core_, fd_); !wanted)
    co_return std::unexpected(wanted.error());
  if (core_->tried().unnamed_files) {
    result<kernel::unique_fd> fd =
        co_await open_beneath(*core_, fd_, ".", unnamed_flags, file_mode);
    if (fd) co_return unnamed_file(*core_, std::move(*fd));
    if (!lacks_unnamed_files(fd.error().code)) co_return std::unexpected(fd.error());
  }
  co_return co_await create_named(*core_, fd_);
}

task<result<successor>> directory::create_for(std::string path) {
  if (const int refusal = path_refusal(path); refusal != 0)
    co_return fail(refusal, "openat2", "create_for");
  if (const result<void> wanted = check_trust(*core_, fd_); !wanted)
    co_return std::unexpected(wanted.error());
  const opening_beneath look(*core_, fd_, path.c_str(), O_PATH, 0);
  const opening_beneath create(*core_, fd_, ".", unnamed_flags, file_mode);
  look_and_create both{look, core_->tried().unnamed_files ? &create : nullptr};
  op_await working(core_->loop(), call_of(look_and_create_on_worker, &both));
  const result<std::size_t> done = co_await working;
  const kernel::unique_fd looked(static_cast<int>(std::max<std::int64_t>(both.looked, -1)));
  kernel::unique_fd made(static_cast<int>(std::max<std::int64_t>(both.made, -1)));
  if (!done) co_return fail(done.error().code, "openat2", "create_for");
  successor found;
  if (made) found.made = unnamed_file(*core_, std::move(made));  // closed in the background
  if (looked) {
    if (!both.current) co_return std::unexpected(both.current.error());
    const result<void> regular = kernel::require_regular(*both.current);
    if (!regular) co_return std::unexpected(regular.error());
    found.current = info_of(*both.current);
  } else if (both.looked != -ENOENT) {
    co_return fail(static_cast<int>(-both.looked), "openat2", "create_for");
  }
  if (found.made) co_return found;
  if (!lacks_unnamed_files(static_cast<int>(-both.made)))
    co_return fail(static_cast<int>(-both.made), "openat2", "create_for");
  result<file> named = co_await create_named(*core_, fd_);
  if (!named) co_return std::unexpected(named.error());
  found.made = std::move(*named);
  co_return found;
}

}  // namespace sluice
