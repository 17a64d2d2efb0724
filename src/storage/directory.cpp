#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "ops/table.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "storage/beneath.hpp"
#include "storage/commit.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"
#include "storage/new_directories.hpp"

namespace sluice {
namespace {

constexpr std::uint32_t directory_mode = 0777;  // the process's umask takes from it
constexpr int directory_flags = O_RDONLY | O_DIRECTORY;

struct split_path {
  std::string parent;  // "" is the directory itself
  std::string last;
};

split_path split(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// Whether a failed mkdirat(2) has surely made nothing. Not: a cancel or an interruption, an answer
// that did not come, and EEXIST, which another one may have caused that is just as new.
bool is_refusal(int failure) {
  switch (failure) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOSPC:
    case EDQUOT:
    case EMLINK:
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EINVAL:
    case EOPNOTSUPP: return true;
    default: return false;
  }
}

// Whoever finds it from now on has to see to its name himself, until the parent was synced.
task<result<void>> make_directory(engine_core& core, int parent_fd,
                                  const kernel::inode_info& parent, const std::string& name) {
  op_request request;
  request.kind = op_kind::mkdirat;
  request.fd = parent_fd;
  request.path = name.c_str();
  request.length = directory_mode;
  new_directories::of_process().begin(parent);
  op_await making(core.loop(), request);
  const result<std::size_t> made = co_await making;
  using making_ended = new_directories::making;
  const bool refused = !made && is_refusal(made.error().code);
  new_directories::of_process().end(parent,
                                    refused ? making_ended::refused : making_ended::perhaps_made);
  if (!made && made.error().code != EEXIST)
    co_return fail(made.error().code, "mkdirat", "parent directory");
  co_return result<void>{};
}

// A name in a directory has changed. A sync that was not carried out, cancelled for one, leaves the
// change as unknown as one that failed, and ECANCELED would say that nothing had happened.
task<result<void>> sync_change(engine_core& core, int directory_fd, std::uint64_t losses_before,
                               const char* where) {
  const result<void> synced = co_await sync_directory(core, directory_fd, losses_before);
  if (synced || synced.error().code == code::durability_unknown) co_return synced;
  co_return fail(code::durability_unknown, "fsync of the directory", where);
}

// The parent is synced whoever made the directory: one that is found may be so new that the sync of
// who made it is still to come.
task<result<kernel::unique_fd>> enter_or_make(engine_core& core, int parent_fd, std::string name) {
  const std::uint64_t losses_before = committer_of(core).losses();
  const result<kernel::inode_info> parent = kernel::inode_of(parent_fd);
  if (!parent) co_return std::unexpected(parent.error());
  result<kernel::unique_fd> there = co_await open_beneath(core, parent_fd, name, directory_flags);
  if (!there) {
    if (there.error().code != ENOENT) co_return there;
    const result<void> made = co_await make_directory(core, parent_fd, *parent, name);
    if (!made) co_return std::unexpected(made.error());
    there = co_await open_beneath(core, parent_fd, name, directory_flags);
    if (!there) co_return there;
  }
  const std::optional<std::uint64_t> begun = new_directories::of_process().unsynced_in(*parent);
  const result<void> synced =
      co_await sync_change(core, parent_fd, losses_before, "parent directory");
  if (!synced) co_return std::unexpected(synced.error());
  if (begun) new_directories::of_process().synced(*parent, *begun);
  co_return there;
}

struct name_to_remove {
  int directory_fd;
  const char* name;
  const char* what = "remove";  // for an error
};

std::int64_t remove_on_worker(void* context) {
  auto& n = *static_cast<name_to_remove*>(context);
  struct stat info{};
  if (::fstatat(n.directory_fd, n.name, &info, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
  if (S_ISDIR(info.st_mode)) {
    n.what = "remove: a directory";
    return -EISDIR;
  }
  if (!S_ISREG(info.st_mode)) {
    n.what = "remove: not a regular file";
    return -EINVAL;
  }
  return ::unlinkat(n.directory_fd, n.name, 0) == 0 ? 0 : -errno;
}

// What a worker opens, and what it lies on.
struct directory_to_open {
  const char* path;
  result<file_look> seen = fail(ECANCELED, "statx");
};

std::int64_t open_on_worker(void* context) {
  auto& d = *static_cast<directory_to_open*>(context);
  const int fd = ::open(d.path, directory_flags | O_CLOEXEC);
  if (fd < 0) return -errno;
  d.seen = look_now(fd);
  return fd;
}

}  // namespace

directory::directory(engine_core& on, int fd)
    : core_(&on), fd_(fd), losses_before_(committer_of(on).losses()) {}

directory::directory(directory&& other) noexcept
    : core_(other.core_), fd_(std::exchange(other.fd_, -1)), losses_before_(other.losses_before_) {}

directory& directory::operator=(directory&& other) noexcept {
  std::swap(core_, other.core_);
  std::swap(fd_, other.fd_);
  std::swap(losses_before_, other.losses_before_);
  return *this;
}

directory::~directory() {
  if (fd_ >= 0) ::close(fd_);  // a directory opened for reading has nothing to write back
}

task<result<directory>> directory::open(engine& on, std::string path) {
  directory_to_open wanted{path.c_str()};
  op_await opening = on.run_on_worker(open_on_worker, &wanted);
  const result<std::size_t> opened = co_await opening;
  if (!opened) co_return fail(opened.error().code, "open", "directory");
  if (wanted.seen)
    committer_of(on.core()).known_filesystems().learn(wanted.seen->inode, wanted.seen->on);
  co_return directory(on.core(), static_cast<int>(*opened));
}

task<result<directory>> directory::open_directory(std::string path, make_parents make) {
  std::string whole = path.empty() ? "." : path;
  result<kernel::unique_fd> there =
      co_await open_beneath(*core_, fd_, std::move(whole), directory_flags);
  if (there) co_return directory(*core_, there->release());
  if (there.error().code != ENOENT || make == make_parents::no)
    co_return std::unexpected(there.error());
  kernel::unique_fd here;
  std::string rest = path;
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    const std::string component = rest.substr(0, slash);
    rest = slash == std::string::npos ? std::string() : rest.substr(slash + 1);
    if (component.empty()) continue;
    result<kernel::unique_fd> next =
        co_await enter_or_make(*core_, here ? here.get() : fd_, component);
    if (!next) co_return std::unexpected(next.error());
    here = std::move(*next);
  }
  co_return directory(*core_, here.release());
}

task<result<file>> directory::open_file(std::string path, file_info* seen) {
  // O_NONBLOCK: opening a FIFO must not wait for its other end.
  result<kernel::unique_fd> fd =
      co_await open_beneath(*core_, fd_, std::move(path), O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) co_return std::unexpected(fd.error());
  file opened(std::make_unique<file_state>(*core_, std::move(*fd)));  // closed in the background
  look_await looking(*core_, opened.fd());
  const result<file_look> found = co_await looking;
  if (!found) co_return std::unexpected(found.error());
  const result<void> regular = kernel::require_regular(found->inode);
  if (!regular) co_return std::unexpected(regular.error());
  // Left on, the ring would take a read that has to wait for the disk for one that must not.
  if (::fcntl(opened.fd(), F_SETFL, 0) != 0) co_return fail(errno, "fcntl", "open_file");
  opened.state().lies_on(found->on);
  if (seen != nullptr) *seen = info_of(found->inode);
  co_return opened;
}

task<result<file_info>> directory::look(std::string path) {
  const result<kernel::unique_fd> fd = co_await open_beneath(*core_, fd_, std::move(path), O_PATH);
  if (!fd) co_return std::unexpected(fd.error());
  look_await looking(*core_, fd->get());
  const result<file_look> found = co_await looking;
  if (!found) co_return std::unexpected(found.error());
  const result<void> regular = kernel::require_regular(found->inode);
  if (!regular) co_return std::unexpected(regular.error());
  co_return info_of(found->inode);
}

task<result<void>> directory::remove(std::string path) {
  if (const int refusal = path_refusal(path); refusal != 0)
    co_return fail(refusal, "unlinkat", "remove");
  const split_path parts = split(path);
  if (parts.last.empty()) co_return fail(EISDIR, "unlinkat", "remove");
  result<directory> parent = co_await open_directory(parts.parent, make_parents::no);
  if (!parent) co_return std::unexpected(parent.error());
  name_to_remove name{parent->fd(), parts.last.c_str()};
  op_await removing(core_->loop(), call_of(remove_on_worker, &name));
  const result<std::size_t> removed = co_await removing;
  if (!removed) co_return fail(removed.error().code, "unlinkat", name.what);
  co_return co_await sync_change(*core_, parent->fd(), parent->losses_before_,
                                 "remove: the name is gone");
}

task<result<void>> directory::sync() {
  if (new_directories::of_process().any()) {
    const result<void> kept = co_await keep_directory(*core_, fd_);
    if (!kept) co_return kept;
  }
  const std::uint64_t forgiven = committer_of(*core_).cleared_losses();
  co_return co_await sync_directory(*core_, fd_, std::max(losses_before_, forgiven));
}

}  // namespace sluice
