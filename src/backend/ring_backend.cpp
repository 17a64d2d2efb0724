#include "backend/ring_backend.hpp"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "kernel/buffer_ring.hpp"
#include "kernel/uapi.hpp"
#include "ops/table.hpp"

namespace sluice {
namespace {

// user_data that are no op's address: ops are aligned, so odd numbers are free.
constexpr std::uint64_t wake_tag = 1;
constexpr std::uint64_t cancel_tag = 3;

// Room in the completion queue for what is not an op: the wake-up, and cancels a few at a time.
constexpr std::size_t wake_completions = 1;
constexpr std::size_t completion_reserve = 8;
// The part of it that polls leave to others: who only waits, perhaps for ever, must not keep those
// from working that end in time.
constexpr std::size_t poll_share_divisor = 8;

// How many completions the kernel posts for it at most.
std::size_t completions_of(const op& o) { return o.request.kind == op_kind::send_zc ? 2 : 1; }

std::string row_name(const op_row& row) { return std::string("ring.op.") + row.name; }

std::string failure_text(int refusal) {
  std::string text = std::string("io_uring_enter: ") + code_name(refusal) + ": ";
  switch (refusal) {
    case EEXIST: return text + "an engine is for the thread that first ran it";
    case EBADR: return text + "the kernel has lost a completion, an operation would never end";
    case EBADF: return text + "the ring's descriptor was closed by somebody else";
    default: return text + "the ring takes nothing any more";
  }
}

}  // namespace

result<std::unique_ptr<ring_backend>> ring_backend::make(const tuning::ring_knobs& ring_settings,
                                                         const tuning::pool_knobs& pool_settings,
                                                         tuning::counters& counters,
                                                         kernel::capability_table& found) {
  if (found.hidden("io_uring")) {
    found.add("io_uring", true);
    return fail(EPERM, "io_uring_setup", "hidden by sluice.capabilities.hidden");
  }
  result<kernel::ring> ring =
      kernel::ring::make({.entries = ring_settings.entries,
                          .completion_entries = ring_settings.completion_entries,
                          .workers_max = ring_settings.workers_max});
  if (!ring) {
    found.add("io_uring", false, kernel::ring_refusal_reason(ring.error().code));
    return std::unexpected(ring.error());
  }
  result<kernel::wake_fd> wake = kernel::wake_fd::make();
  if (!wake) return std::unexpected(wake.error());
  auto made =
      std::make_unique<ring_backend>(std::move(*ring), std::move(*wake), pool_settings, counters);
  if (const char* lacking = made->find_capabilities(found))
    return fail(ENOSYS, lacking, "engine start");
  return made;
}

ring_backend::ring_backend(kernel::ring made, kernel::wake_fd wake,
                           const tuning::pool_knobs& pool_settings, tuning::counters& counters)
    : wake_fd_(std::move(wake)),
      ring_(std::move(made)),
      counters_(counters),
      workers_(pool_settings.threads, *this, counters.pool) {}

ring_backend::~ring_backend() {
  base::require(in_flight_ == 0, "a ring ended with an operation in flight");
}

// Files have the worker pool to fall back to; a ring that cannot wait for sockets is none for us.
const char* ring_backend::find_operations(const kernel::capability_table& found,
                                          const std::vector<bool>& supported) {
  const auto has = [&](const op_row& row) {
    return row.opcode >= 0 && supported[static_cast<std::size_t>(row.opcode)] &&
           !found.hidden(row_name(row));
  };
  const char* lacking = nullptr;
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(static_cast<op_kind>(i));
    const op_row& stand_in = row_of(row.stand_in);
    if (row.opcode < 0) continue;
    if (has(row)) {
      rows_[i] = &row;
    } else if (has(stand_in)) {
      rows_[i] = &stand_in;
    }
    // A plain send stands in for one without a copy, a plain receive for a multishot one.
    const bool needed = row.by != carrier::worker && row.by != carrier::inline_call &&
                        row.kind != op_kind::send_zc && row.kind != op_kind::recv_multishot;
    if (needed && rows_[i] == nullptr && lacking == nullptr) lacking = row.name;
  }
  return lacking;
}

const char* ring_backend::find_capabilities(kernel::capability_table& found) {
  const std::vector<bool> supported = ring_.supported_opcodes();
  const char* lacking = find_operations(found, supported);
  const std::string reason =
      lacking == nullptr ? "" : std::string("a ring without ") + lacking + " serves no socket";
  found.add("io_uring", lacking == nullptr, reason);
  for (const kernel::ring_feature& feature : ring_.features()) {
    found.add(feature.name, feature.present, feature.reason);
  }
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(static_cast<op_kind>(i));
    if (row.opcode < 0) continue;
    found.add(row_name(row), supported[static_cast<std::size_t>(row.opcode)],
              "not in this kernel's IORING_REGISTER_PROBE");
  }
  return lacking;
}

io_uring_sqe* ring_backend::entry() {
  io_uring_sqe* sqe = ring_.entry();
  if (sqe != nullptr) return sqe;
  counters_.ring.enters.add();
  entered(ring_.submit());  // may take fewer than are queued; then there is still no room
  sqe = ring_.entry();
  if (sqe == nullptr) short_of_entries_ = true;
  return sqe;
}

// The one place that judges what io_uring_enter(2) answers. A ring that refuses for good would
// leave every op with the kernel and its owner waiting, so there is nothing to go on with.
void ring_backend::entered(int refusal) {
  switch (refusal) {
    case 0:
    case EBUSY:   // completions are to be taken before more is submitted: that is what follows
    case EAGAIN:  // no memory for requests now
    case ENOMEM:  // none for the thread's first: the next turn tries again
      return;
    default: break;
  }
  const std::string text = failure_text(refusal);
  if (tell_failure_ != nullptr) tell_failure_(failure_context_, text);
  base::broken(text.c_str());
}

std::size_t ring_backend::polls_max() const {
  const std::size_t entries = ring_.completion_entries();
  return entries - completion_reserve - entries / poll_share_divisor;
}

bool ring_backend::has_room(const op& o) const {
  if (only_waits(o.request) && polls_in_flight_ >= polls_max()) return false;
  return in_flight_ + completions_of(o) + cancels_in_flight_ + completion_reserve <=
         ring_.completion_entries();
}

bool ring_backend::start(op& o) {
  const op_row* const row = rows_[static_cast<std::size_t>(o.request.kind)];
  const op_route route = o.request.route;
  if (row == nullptr || route == op_route::worker || route == op_route::loop_thread) {
    if (carrier_of(o.request) == carrier::worker) {
      if (!workers_.submit(o)) {
        o.result = -code::no_thread;  // the loop tries again, a bounded number of times
        answered_now_.push_back(o);
      }
      return true;
    }
    assert(carrier_of(o.request) == carrier::inline_call);
    o.result = row_of(o.request.kind).perform(o.request);
    answered_now_.push_back(o);
    return true;
  }
  if (!has_room(o)) return false;
  io_uring_sqe* sqe = entry();
  if (sqe == nullptr) return false;
  row->fill_sqe(o.request, *sqe);
  if (route == op_route::ring_thread) sqe->flags |= IOSQE_ASYNC;
  io_uring_sqe_set_data64(sqe, reinterpret_cast<std::uint64_t>(&o));
  in_flight_ += completions_of(o);
  if (only_waits(o.request)) ++polls_in_flight_;
  return true;
}

void ring_backend::cancel(op& o) {
  if (o.on_worker) {
    workers_.cancel(o);
    return;
  }
  if (o.holds_memory) return;  // it was sent: nothing but the peer brings the memory back
  if (!o.link.is_linked()) cancels_.push_back(o);  // linked: answered already
}

void ring_backend::arm_wake() {
  if (wake_armed_) return;
  io_uring_sqe* sqe = entry();
  if (sqe == nullptr) return;
  io_uring_prep_poll_add(sqe, wake_fd_.get(), POLLIN);
  io_uring_sqe_set_data64(sqe, wake_tag);
  wake_armed_ = true;
}

// The ring's own descriptor would not wake a sleeping epoll
// (kernel-notes/eventfd_wakes_for_deferred_work.md). The wake-up is watched beside the eventfd and
// not through the ring: the kernel does not signal one eventfd, but for the first time, out of the
// write to another that the ring polls.
int ring_backend::poll_fd() {
  if (guest_) return guest_->both.get();
  result<kernel::wake_fd> due = kernel::wake_fd::make();
  if (!due) return -due.error().code;
  result<kernel::epoll> both = kernel::epoll::make();
  if (!both) return -both.error().code;
  for (const int fd : {due->get(), wake_fd_.get()}) {
    if (const result<void> watched = both->watch(fd); !watched) return -watched.error().code;
  }
  if (const int refusal = ring_.register_eventfd(due->get()); refusal != 0) return -refusal;
  guest_.emplace(std::move(*due), std::move(*both));
  if (!workers_.may_wait()) wake();
  return guest_->both.get();
}

void ring_backend::wait(std::int64_t timeout_ns, op_list& answered) {
  if (guest_) guest_->due.clear();  // before the kernel is entered: what falls due signals anew
  arm_wake();
  hand_over_cancels();
  const bool at_once = timeout_ns == 0 || !answered_now_.empty() || !cancels_.empty() ||
                       short_of_entries_ || !workers_.may_wait();
  // Turns that only calls of the loop itself have answered need not enter the kernel once more.
  if (!at_once || ring_.has_to_be_entered()) {
    counters_.ring.enters.add();
    entered(ring_.submit_and_wait(at_once ? 0 : timeout_ns));
  }
  // What found no room is tried again in the next wait, which a host must be called for.
  if (guest_ && (!cancels_.empty() || short_of_entries_)) wake();
  short_of_entries_ = false;
  if (ring_.overflown()) counters_.ring.cq_overflows.add();
  ring_.harvest([&](std::uint64_t user_data, int result, unsigned flags) {
    answer(user_data, result, flags, answered);
  });
  answered.splice(answered.end(), answered_now_);
  workers_.collect(answered);
  if (guest_ && !workers_.may_wait()) wake();
}

// A cancel has a completion beside that of its op, so the queue's room bounds how many are under
// way; those of the first make room for the rest.
void ring_backend::hand_over_cancels() {
  while (!cancels_.empty() &&
         in_flight_ + cancels_in_flight_ + wake_completions < ring_.completion_entries()) {
    io_uring_sqe* sqe = entry();
    if (sqe == nullptr) return;
    op& o = cancels_.front();
    cancels_.pop_front();
    io_uring_prep_cancel64(sqe, reinterpret_cast<std::uint64_t>(&o), 0);
    io_uring_sqe_set_data64(sqe, cancel_tag);
    ++cancels_in_flight_;
  }
}

void ring_backend::answer(std::uint64_t user_data, int result, unsigned flags, op_list& answered) {
  if (user_data == LIBURING_UDATA_TIMEOUT) return;
  if (user_data == cancel_tag) {
    --cancels_in_flight_;
    return;
  }
  if (user_data == wake_tag) {
    wake_armed_ = false;
    wake_fd_.clear();
    return;
  }
  answer_op(*reinterpret_cast<op*>(user_data), result, flags, answered);
}

// Every answer of a multishot receive that brings bytes uses up a buffer, so that the buffers bound
// how many are there at a time.
int ring_backend::register_buffers(unsigned short group, kernel::buffer_ring& buffers) {
  if (in_flight_ + buffers.buffers() + cancels_in_flight_ + completion_reserve >
      ring_.completion_entries())
    return ENOBUFS;
  const int refusal = ring_.register_buffers(group, buffers);
  if (refusal == 0) in_flight_ += buffers.buffers();
  return refusal;
}

void ring_backend::unregister_buffers(unsigned short group, const kernel::buffer_ring& buffers) {
  ring_.unregister_buffers(group);
  in_flight_ -= buffers.buffers();
}

// A zero-copy send gives its result first and, where that carries F_MORE, the memory back later:
// failed ones too (kernel-notes/zero_copy_send_answers_twice.md).
void ring_backend::answer_op(op& o, int result, unsigned flags, op_list& answered) {
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    o.received(o, static_cast<std::uint32_t>(std::max(result, 0)),
               static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT));
  }
  if (o.request.kind == op_kind::recv_multishot && (flags & IORING_CQE_F_MORE) != 0) return;
  if ((flags & IORING_CQE_F_NOTIF) != 0) {
    o.holds_memory = false;
    o.copied = (static_cast<std::uint32_t>(result) & uapi::notif_usage_zc_copied) != 0;
    --in_flight_;
  } else {
    o.holds_memory = (flags & IORING_CQE_F_MORE) != 0;
    o.result = result;
    in_flight_ -= o.holds_memory ? 1 : completions_of(o);
  }
  if (only_waits(o.request)) --polls_in_flight_;
  o.link.unlink();  // from cancels_, if it was faster; from `answered`, when both came at once
  answered.push_back(o);
}

}  // namespace sluice
