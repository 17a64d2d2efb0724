#include "storage/look.hpp"

#include "ops/table.hpp"
#include "storage/committer.hpp"

namespace sluice {

bool is_known(engine_core& core, const kernel::inode_info& of) {
  return committer_of(core).known_filesystems().find(of).has_value();
}

result<file_look> look_now(int fd) {
  const result<kernel::inode_info> inode = kernel::inode_now(fd);
  if (!inode) return std::unexpected(inode.error());
  return file_look{*inode, kernel::filesystem_of(fd)};
}

look_await::look_await(engine_core& core, int fd)
    : core_(core), fd_(fd), seen_(fail(ECANCELED, "statx")) {
  const result<kernel::inode_info> inode = kernel::inode_of(fd);
  if (!inode) {
    seen_ = std::unexpected(inode.error());
    ready_ = true;
    return;
  }
  const auto on = committer_of(core).known_filesystems().find(*inode);
  ready_ = on && on->answers_at_once();
  if (ready_) seen_ = file_look{*inode, *on};
}

void look_await::begin(scope* task_scope) noexcept {
  work_.request = call_of(ask, this);
  core_.loop().start(work_, task_scope);
}

// On a worker. The call itself does not fail: it would be made again.
std::int64_t look_await::ask(void* look) {
  auto& l = *static_cast<look_await*>(look);
  l.seen_ = look_now(l.fd_);
  return 0;
}

result<file_look> look_await::await_resume() {
  if (!ready_ && work_.outcome() < 0) return fail(static_cast<int>(-work_.outcome()), "statx");
  if (!ready_ && seen_) committer_of(core_).known_filesystems().learn(seen_->inode, seen_->on);
  return seen_;
}

}  // namespace sluice
