#include "sluice/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <utility>

#include "kernel/page_cache.hpp"
#include "kernel/socket.hpp"
#include "storage/committer.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"
#include "storage/naming.hpp"
#include "storage/reserve.hpp"
#include "storage/write_batcher.hpp"

namespace sluice {

file_state::~file_state() {
  if (!fd) return;
  core.closer().close_later({std::move(fd), std::move(directory), std::move(temporary_name)});
}

namespace {

// A writer that has failed has dropped what it was posted: the file lacks it for good.
bool lacks_blocks(const file_state& file) {
  const std::shared_ptr<const write_batcher> writer = file.writer.lock();
  return writer && (writer->holds_bytes() || writer->failure() != 0);
}

bool is_free(const file_state& file, transfer_claim::hold wanted) {
  switch (wanted) {
    case transfer_claim::hold::alone: return file.transfers == 0 && file.writer.expired();
    case transfer_claim::hold::shared: return file.transfers >= 0;
    case transfer_claim::hold::publish: break;
  }
  return file.transfers >= 0 && !file.publishing && !lacks_blocks(file);
}

}  // namespace

transfer_claim::transfer_claim(file_state& file, hold wanted) : as_(wanted) {
  if (!is_free(file, wanted)) return;
  file.transfers += wanted == hold::alone ? -1 : 1;
  if (wanted == hold::publish) file.publishing = true;
  held_ = &file;
}

void transfer_claim::release() {
  if (held_ == nullptr) return;
  held_->transfers -= as_ == hold::alone ? -1 : 1;
  if (as_ == hold::publish) held_->publishing = false;
  held_ = nullptr;
}

op_route direct_route_of(kernel::filesystem_kind on) {
  return on.direct_distrust() != nullptr ? op_route::worker : op_route::automatic;
}

op_route read_route_of(kernel::filesystem_kind on) {
  return on.answers_at_once() ? op_route::automatic : op_route::ring_thread;
}

void file_state::lies_on(kernel::filesystem_kind on) {
  direct_route = direct_route_of(on);
  read_route = read_route_of(on);
}

std::size_t depth_within_workers(engine_core& core, op_route route, std::size_t depth) {
  const bool by_worker = route == op_route::worker || core.carrier().name() == "pool";
  if (!by_worker) return depth;
  return std::min<std::size_t>(
      depth, std::max<std::size_t>(core.values().pool.threads / 4, copy_depth_max));
}

std::size_t write_depth(const file_state& state, std::size_t depth) {
  if (!state.direct) return std::min(depth, copy_depth_max);
  return depth_within_workers(state.core, state.direct_route, depth);
}

int set_direct(file_state& state, bool on) {
  const int refusal = kernel::set_direct(state.fd.get(), on);
  if (refusal != 0) return refusal;
  state.direct = on;
  return refusal;
}

op_request on_file(const file_state& state, op_kind kind) {
  op_request request;
  request.kind = kind;
  request.fd = state.fd.get();
  if (kind == op_kind::write || kind == op_kind::writev) {
    request.route = write_route(state, false, 0);
  } else if (kind == op_kind::read) {
    request.route = state.direct ? state.direct_route : state.read_route;
  }
  return request;
}

file::file() = default;
file::file(std::unique_ptr<file_state> state) : state_(std::move(state)) {}

result<file> file::adopt(engine& on, int fd) {
  const result<kernel::inode_info> inode = kernel::inode_of(fd);
  if (!inode) return std::unexpected(inode.error());
  if (!S_ISREG(inode->mode)) return fail(EINVAL, "adopt", "not a regular file");
  if (kernel::is_append(fd)) return fail(EINVAL, "adopt", "opened with O_APPEND");
  // Left on, the ring would take a read that has to wait for the disk for one that must not.
  const result<void> blocking = kernel::set_mode(fd, kernel::socket_mode::blocking);
  if (!blocking) return std::unexpected(blocking.error());
  auto state = std::make_unique<file_state>(on.core(), kernel::unique_fd(fd));
  state->direct = kernel::is_direct(fd);
  const auto lies_on = committer_of(state->core).known_filesystems().find(*inode);
  if (lies_on) {
    state->lies_on(*lies_on);
  } else if (inode->tells_direct) {
    // FUSE tells none (kernel-notes/cached_attributes_do_not_wait.md).
    state->direct_route = state->read_route = op_route::automatic;
  } else if (kernel::is_in_memory(fd)) {
    state->read_route = op_route::automatic;
  }
  return file(std::move(state));
}

file::file(file&&) noexcept = default;
file& file::operator=(file&&) noexcept = default;
file::~file() = default;

int file::fd() const { return state_ ? state_->fd.get() : -1; }

result<file_info> file::info() const {
  const result<kernel::inode_info> inode = kernel::inode_now(fd());
  if (!inode) return std::unexpected(inode.error());
  return info_of(*inode);
}

task<result<file_info>> file::look() const {
  if (!state_) co_return fail(EBADF, "statx", "look");
  look_await looking(state_->core, state_->fd.get());
  const result<file_look> seen = co_await looking;
  if (!seen) co_return std::unexpected(seen.error());
  state_->lies_on(seen->on);
  co_return info_of(seen->inode);
}

result<void> file::touch() const {
  const int refusal = date_now(fd());
  if (refusal != 0) return fail(refusal, "futimens", "touch");
  return {};
}

op_await file::read(std::span<std::byte> into, std::uint64_t offset) {
  op_request request = on_file(*state_, op_kind::read);
  request.data = into.data();
  request.length = into.size();
  request.offset = offset;
  return {state_->core.loop(), request};
}

op_await file::write(std::span<const std::byte> bytes, std::uint64_t offset) {
  op_request request = on_file(*state_, op_kind::write);
  request.data = const_cast<std::byte*>(bytes.data());
  request.length = bytes.size();
  request.offset = offset;
  return {state_->core.loop(), request};
}

op_await file::write(std::span<iovec> parts, std::uint64_t offset) {
  op_request request = on_file(*state_, op_kind::writev);
  request.data = parts.data();
  request.length = parts.size();
  request.offset = offset;
  return {state_->core.loop(), request};
}

op_await file::truncate(std::uint64_t bytes) {
  op_request request = on_file(*state_, op_kind::ftruncate);
  request.length = bytes;
  return {state_->core.loop(), request};
}

task<result<void>> file::reserve(std::uint64_t bytes) {
  std::uint64_t ops = 0;
  co_return co_await reserve_space(*state_, 0, bytes, ops);
}

namespace {

// Awaits a close outside any scope: refused in a cancelled task, it would leave the descriptor
// open.
class close_await {
 public:
  explicit close_await(file_state& state)
      : loop_(state.core.loop()), op_(on_file(state, op_kind::close)) {
    state.fd.release();
  }
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> awaiting) noexcept {
    op_.context = awaiting.address();
    op_.complete = [](op& o) noexcept {
      std::coroutine_handle<>::from_address(o.context).resume();
    };
    loop_.start(op_, nullptr);
  }
  [[nodiscard]] result<void> await_resume() const noexcept {
    if (op_.outcome() < 0) return fail(static_cast<int>(-op_.outcome()), "close", "file");
    return {};
  }

 private:
  loop& loop_;
  op op_;
};

}  // namespace

task<result<void>> file::close() {
  if (!state_) co_return result<void>{};
  file_state& state = *state_;
  if (!state.temporary_name.empty()) {
    state_.reset();  // the name goes first, in the background
    co_return result<void>{};
  }
  close_await closing(state);
  const result<void> closed = co_await closing;
  state_.reset();
  co_return closed;
}

}  // namespace sluice
