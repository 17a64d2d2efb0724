#include "sluice/block_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "kernel/page_cache.hpp"
#include "ops/table.hpp"
#include "storage/commit.hpp"
#include "storage/file_state.hpp"
#include "storage/write_batcher.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t merge_bytes_min = 4 << 10;
// A direct write beyond it is carried out by a worker thread of the ring.
constexpr std::uint64_t merge_bytes_max = 512 << 10;
constexpr std::int64_t delay_us_max = 60'000'000;
constexpr std::uint64_t offset_max = std::numeric_limits<std::int64_t>::max();
constexpr const char* where = "block_writer";

std::unexpected<error> failed(const write_batcher& b) { return fail(b.failure(), "write", where); }

// What a worker finds out for a writer: opening and asking may wait for a network filesystem, and
// so may closing what is not handed on.
struct reopening {
  reopening(engine_core& on, int fd) : core(on), cached(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {}
  reopening(const reopening&) = delete;
  reopening& operator=(const reopening&) = delete;
  ~reopening() {
    for (kernel::unique_fd* fd : {&cached, &direct}) {
      if (*fd) core.closer().close_later({std::move(*fd), {}, {}});
    }
  }

  engine_core& core;
  kernel::unique_fd cached;
  kernel::unique_fd direct;
  kernel::reopened found;

  [[nodiscard]] op_route route() const {
    return direct ? direct_route_of(found.on) : op_route::automatic;
  }
  static std::int64_t carry_out(void* data) {
    auto& r = *static_cast<reopening*>(data);
    const int opened = kernel::reopen_direct(r.cached.get(), O_WRONLY, r.found);
    if (opened < 0) return opened;
    r.direct.reset(opened);
    return 0;
  }
};

std::uint64_t end_of(std::uint64_t offset, std::uint64_t length) {
  return length > op_no_offset - offset ? op_no_offset : offset + length;
}

bool valid(const block_writer_options& o) {
  const bool merges =
      o.merge_bytes == 0 || (std::has_single_bit(o.merge_bytes) &&
                             o.merge_bytes >= merge_bytes_min && o.merge_bytes <= merge_bytes_max);
  return merges && o.delay.count() <= delay_us_max;
}

write_limits limits_of(const tuning::write_knobs& knobs, const block_writer_options& o) {
  const std::int64_t delay_us = o.delay.count() < 0 ? knobs.delay_us : o.delay.count();
  return {.merge_bytes = o.merge_bytes != 0 ? o.merge_bytes : knobs.merge_bytes,
          .batch_bytes = o.batch_bytes != 0 ? o.batch_bytes : knobs.batch_bytes,
          .depth = knobs.depth,
          .pieces_max = knobs.pieces_max,
          .delay_ns = delay_us * 1000};
}

}  // namespace

struct block_writer::state {
  // Both descriptors are its own, so that they stay as long as the writes that use them.
  state(file_state& into, reopening& again, op_route route, const write_limits& limits)
      : file(into),
        core(into.core),
        claim(into, transfer_claim::hold::shared),
        cached(std::move(again.cached)),
        direct(std::move(again.direct)),
        batcher(core.loop(), core.blocks(), core.counters().write,
                {cached.get(), direct.get(), again.found.alignment,
                 kernel::is_in_memory(cached.get()), route},
                limits) {
    into.writer = token;
  }
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() {
    core.closer().close_later({std::move(cached), {}, {}});
    core.closer().close_later({std::move(direct), {}, {}});
  }

  file_state& file;
  engine_core& core;
  transfer_claim claim;
  kernel::unique_fd cached;
  kernel::unique_fd direct;
  write_batcher batcher;
  std::shared_ptr<const write_batcher> token{std::make_shared<char>(), &batcher};
};

task<result<block_writer>> block_writer::open(file& into, block_writer_options options) {
  file_state& file = into.state();
  engine_core& core = file.core;
  if (!valid(options)) co_return fail(EINVAL, "open", "block_writer: options out of range");
  // Opened again it might be writable all the same.
  if (!kernel::is_writable(file.fd.get())) co_return fail(EBADF, "open", where);
  if (const transfer_claim free(file, transfer_claim::hold::shared); !free)
    co_return fail(EBUSY, "open", "block_writer: a transfer has the file alone");
  if (!file.writer.expired()) co_return fail(EBUSY, "open", "block_writer: there is one");
  reopening again(core, file.fd.get());
  if (!again.cached) co_return fail(errno, "fcntl", where);
  if (options.access == block_access::automatic && core.tried().proc_self_fd) {
    op_await opening(core.loop(), call_of(reopening::carry_out, &again));
    const result<std::size_t> opened = co_await opening;
    if (!opened && opened.error().code == ECANCELED) co_return std::unexpected(opened.error());
  }
  if (!file.writer.expired()) co_return fail(EBUSY, "open", "block_writer: there is one");
  write_limits limits = limits_of(core.values().write, options);
  const op_route route = again.route();
  if (again.direct) file.lies_on(again.found.on);
  limits.depth = depth_within_workers(core, route, limits.depth);
  auto made = std::make_unique<state>(file, again, route, limits);
  if (!made->claim) co_return fail(EBUSY, "open", "block_writer: a transfer has the file alone");
  // What goes through the page cache need not be aligned; both descriptors are one open file.
  const int refusal = set_direct(file, false);
  if (refusal != 0) co_return fail(refusal, "fcntl", where);
  co_return block_writer(std::move(made));
}

block_writer::block_writer(std::unique_ptr<state> made) : state_(std::move(made)) {}
block_writer::block_writer(block_writer&&) noexcept = default;
block_writer& block_writer::operator=(block_writer&& other) noexcept {
  if (this != &other) {
    leave();
    state_ = std::move(other.state_);
  }
  return *this;
}
block_writer::~block_writer() { leave(); }

// The writes under way have our memory and our descriptors: a task of its own waits for them.
void block_writer::leave() noexcept {
  if (!state_) return;
  state_->claim.release();
  state_->batcher.abandon();
  if (!state_->batcher.busy()) {
    state_.reset();
    return;
  }
  engine_core& core = state_->core;
  core.adopt(detail::carry(drain(std::move(state_)), [] {}));
}

task<void> block_writer::drain(std::unique_ptr<state> left) {
  while (left->batcher.busy()) co_await left->batcher.idle();
}

result<void> block_writer::post(lease&& block, std::span<const std::byte> bytes,
                                std::uint64_t offset) {
  write_batcher& b = state_->batcher;
  const std::byte* const memory = block.data();
  if (!block || bytes.data() < memory || bytes.size() > block.size() ||
      bytes.data() > memory + (block.size() - bytes.size()))
    return fail(EINVAL, "post", "block_writer: bytes outside their block");
  if (offset > offset_max || bytes.size() > offset_max - offset)
    return fail(EINVAL, "post", "block_writer: a range past 2^63");
  if (bytes.empty()) return {};
  const int refused = b.post(block, bytes, offset);
  if (refused == 0) return {};
  return refused == EAGAIN && b.failure() == 0 ? fail(EAGAIN, "post", where) : failed(b);
}

bool block_writer::has_room() const { return state_->batcher.has_room(); }
room_await block_writer::room() { return room_await(state_->batcher); }
block_writer_stats block_writer::stats() const { return state_->batcher.stats(); }

bool room_await::await_ready() const noexcept { return on_->has_room(); }

void room_await::begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept {
  wait_.request.kind = op_kind::park;
  wait_.context = awaiting.address();
  wait_.complete = [](op& o) noexcept {
    std::coroutine_handle<>::from_address(o.context).resume();
  };
  on_->wait_for_room(wait_, task_scope);
}

result<void> room_await::await_resume() const noexcept {
  if (on_->failure() != 0) return failed(*on_);
  if (wait_.outcome() < 0) return fail(static_cast<int>(-wait_.outcome()), "room", where);
  return {};
}

bool block_writer::try_read(std::span<std::byte> into, std::uint64_t offset) const {
  const write_batcher& b = state_->batcher;
  const std::uint64_t end = end_of(offset, into.size());
  for (std::byte* to = into.data(); offset < end;) {
    const range_map::view found = b.look(offset, end);
    if (found.data == nullptr) return false;
    std::memcpy(to, found.data, found.bytes);
    to += found.bytes;
    offset += found.bytes;
  }
  state_->core.counters().write.read_bytes.add(into.size());
  return true;
}

namespace {

// How many bytes from `offset` on are in the file, at most up to `end`.
std::uint64_t gap_at(const write_batcher& b, std::uint64_t offset, std::uint64_t end) {
  std::uint64_t at = offset;
  while (at < end) {
    const range_map::view found = b.look(at, end);
    if (found.data != nullptr) break;
    at += found.bytes;
  }
  return at - offset;
}

}  // namespace

// Piece by piece, each from where it is at that moment: what is in memory is copied before anything
// is awaited, and what is not in memory then is in the file, whatever is written meanwhile.
task<result<std::size_t>> block_writer::read(std::span<std::byte> into, std::uint64_t offset) {
  const state& s = *state_;
  const write_batcher& b = s.batcher;
  const std::uint64_t end = end_of(offset, into.size());
  std::size_t done = 0;
  while (done < into.size()) {
    if (b.failure() != 0) co_return failed(b);
    const std::uint64_t at = offset + done;
    const std::uint64_t gap = gap_at(b, at, end);
    if (gap == 0) {
      const range_map::view found = b.look(at, end);
      std::memcpy(into.data() + done, found.data, found.bytes);
      s.core.counters().write.read_bytes.add(found.bytes);
      done += found.bytes;
      continue;
    }
    // The file may end before blocks that are still to make it longer: zeroes up to them.
    const std::uint64_t end_of_file = b.end_offset();
    op_request request;
    request.kind = op_kind::read;
    request.fd = s.cached.get();
    request.route = s.file.read_route;
    request.data = into.data() + done;
    request.length = gap;
    request.offset = at;
    op_await reading(s.core.loop(), request);
    const result<std::size_t> got = co_await reading;
    if (!got) co_return std::unexpected(got.error());
    std::uint64_t filled = *got;
    if (filled < gap && end_of_file > at + filled) {
      const std::uint64_t zeroes = std::min(gap, end_of_file - at) - filled;
      std::memset(into.data() + done + filled, 0, zeroes);
      filled += zeroes;
    }
    done += filled;
    if (filled < gap) break;
  }
  co_return done;
}

task<result<void>> block_writer::flush(std::uint64_t offset, std::uint64_t length) {
  write_batcher& b = state_->batcher;
  const std::uint64_t end = end_of(offset, length);
  const std::uint64_t last = b.posted();
  b.hasten(offset, end);
  while (b.keeps_back(offset, end, last)) {
    write_batcher::round_await waiting(b, offset);
    if (!co_await waiting) co_return fail(ECANCELED, "flush", where);
  }
  if (b.failure() != 0) co_return failed(b);
  co_return result<void>{};
}

task<result<void>> block_writer::commit(std::uint64_t offset, std::uint64_t length) {
  const result<void> stored = co_await flush(offset, length);
  if (!stored) co_return stored;
  co_return co_await commit_writes(state_->file);
}

}  // namespace sluice
