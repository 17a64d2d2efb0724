// File to socket. Through leases: blocks are read ahead of the send, by O_DIRECT (direct) or from
// the page cache (copy), and leave in order; the head goes with the first block, in one call. The
// path splice, past our memory, is in send_spliced.cpp.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/this_scope.hpp"
#include "kernel/page_cache.hpp"
#include "kernel/socket.hpp"
#include "storage/look.hpp"
#include "storage/page_dropper.hpp"
#include "storage/read_ahead.hpp"
#include "transfer/deadline.hpp"
#include "transfer/op_count.hpp"
#include "transfer/planner.hpp"
#include "transfer/sending.hpp"
#include "transfer/stall_watch.hpp"
#include "transfer/zero_copy_window.hpp"

namespace sluice {
namespace {

constexpr const char* no_zero_copy = "this socket or kernel knows no sends without a copy";
constexpr const char* not_registered = "the block to be sent is not registered";
constexpr const char* no_splice = "splice refused by the filesystem or socket";

std::uint32_t copies_of(path p) { return p == path::splice ? 0 : p == path::direct ? 1 : 2; }

bool is_zero_copy_forced(const sending& s) {
  return s.from.core.values().send.zero_copy == tuning::zero_copy_choice::always;
}

void take_path(sending& s, const plan& chosen, const kernel::direct_alignment& alignment) {
  s.so_far.path = chosen.chosen;
  s.so_far.reason = chosen.reason;
  s.so_far.copies = copies_of(chosen.chosen);
  s.unit = chosen.chosen == path::direct ? alignment.offset_bytes : 1;
  s.zero_copy = chosen.zero_copy && (is_zero_copy_forced(s) || !kernel::peer_is_here(s.to.fd()));
  s.cache = chosen.cache;
}

bool is_direct_forced(const sending& s) {
  return s.from.core.values().send.path == tuning::send_path_choice::direct ||
         s.options.cache == cache_policy::direct;
}

// Whether the planner may choose it: then the send has the file alone, for O_DIRECT is switched on.
bool may_be_direct(const sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  if (is_direct_forced(s)) return true;
  return knobs.path == tuning::send_path_choice::automatic &&
         s.options.cache == cache_policy::automatic && s.options.length >= knobs.direct_min_bytes;
}

// `seen` where it may be direct.
result<void> choose_path(sending& s, const std::optional<file_look>& seen) {
  const tuning::knob_values& values = s.from.core.values();
  const int fd = s.from.fd.get();
  kernel::direct_alignment alignment;
  if (seen) alignment = kernel::alignment_of(fd, seen->inode, seen->on);
  const file_capabilities& tried = s.from.core.tried();
  const bool dontcache = s.options.cache == cache_policy::dontcache && kernel::has_dontcache(fd);
  plan chosen =
      plan_send({.offset = s.options.offset,
                 .length = s.options.length,
                 .content = s.options.content,
                 .cache = s.options.cache},
                {.direct = alignment,
                 .direct_distrust = seen ? seen->on.direct_distrust() : nullptr,
                 .dontcache = dontcache},
                {values.memory.block_bytes, tried.splice, tried.zero_copy_send}, values.send);
  s.so_far.path = chosen.chosen;
  s.so_far.reason = chosen.reason;  // of a refusal too
  if (chosen.refused) return fail(code::path_unavailable, "send_from_file", chosen.reason);
  const bool to_be_set = may_be_direct(s) || s.from.direct;  // it may have come so
  if (to_be_set && set_direct(s.from, chosen.chosen == path::direct) != 0) {
    chosen.reason = s.so_far.reason = "O_DIRECT refused by the filesystem";
    if (is_direct_forced(s)) return fail(code::path_unavailable, "fcntl", chosen.reason);
    chosen.chosen = path::copy;
  }
  take_path(s, chosen, alignment);
  return {};
}

std::size_t depth_of(const sending& s) {
  const tuning::knob_values& values = s.from.core.values();
  const std::uint64_t blocks = s.options.length / values.memory.block_bytes + 2;
  return static_cast<std::size_t>(std::min<std::uint64_t>(blocks, values.send.depth));
}

// While blocks are scarce they leave with a copy: those are back at once, whoever acknowledges
// when.
bool may_leave_without_copy(const sending& s, std::int32_t buffer_index) {
  if (!s.zero_copy || buffer_index < 0) return false;
  return is_zero_copy_forced(s) || (!s.to.copies_zero_copy() && !s.from.core.blocks().scarce());
}

// One call, and what of it is still to be sent.
struct outgoing {
  std::array<iovec, 2> parts{};
  msghdr message{};
};

op_request message_request(const sending& s, const op_pace& taker, outgoing& call,
                           std::span<const std::byte> payload, follows then) {
  call.parts = {{{const_cast<std::byte*>(s.head.data()), s.head.size()},
                 {const_cast<std::byte*>(payload.data()), payload.size()}}};
  call.message.msg_iov = call.parts.data();
  call.message.msg_iovlen = call.parts.size();
  op_request request;
  request.kind = op_kind::sendmsg;
  request.fd = s.to.fd();
  request.data = &call.message;
  // MSG_MORE between blocks: the last one pushes what is left of a packet.
  request.flags = MSG_NOSIGNAL | MSG_WAITALL;
  if (then == follows::more) request.flags |= MSG_MORE;
  if (taker.is_last_try()) do_not_wait(request);
  return request;
}

// What a plain send means for the transfer: 0 go on, else why it ends. `block_wanted`: others wait
// for the block that it sends from. `then`: what comes when the head and the payload are gone.
int sent_plainly(sending& s, op_pace& taker, const op_await& send, const result<std::size_t>& sent,
                 std::span<const std::byte>& payload, bool block_wanted, follows then) {
  count_op(s.so_far, send.awaited());
  const auto of_head =
      static_cast<std::size_t>(std::min<std::uint64_t>(send.moved(), s.head.size()));
  s.head = s.head.subspan(of_head);
  payload = payload.subspan(static_cast<std::size_t>(send.moved()) - of_head);
  if (!sent && !was_silent(taker, sent.error().code)) return sent.error().code;
  const bool is_left = !s.head.empty() || !payload.empty();
  if (!is_left && then == follows::nothing) return 0;
  const bool is_short = is_left && (!sent || taker.is_last_try());
  if (is_short && send.moved() > 0) ++s.so_far.short_ops;
  const bool ran_out = !sent && sent.error().code == ETIMEDOUT;
  return taker.ended(send.moved(), ran_out, block_wanted && is_left, kernel::now_ns());
}

// What is left of the head, and blocks as they come. One coroutine frame for all of them.
task<int> send_blocks(sending& s, read_ahead& blocks, zero_copy_window& window, op_pace& taker) {
  while (!blocks.finished() || !s.head.empty()) {
    std::span<const std::byte> payload;
    if (!blocks.finished()) {
      if (blocks.needs_lease()) {
        lease_await leasing(s.from.core.blocks(), s.from.core.loop(), taker.lease_timeout());
        result<lease> leased = co_await leasing;
        if (!leased) co_return leased.error().code == ETIMEDOUT ? ENOBUFS : leased.error().code;
        blocks.begin(std::move(*leased));
      }
      blocks.begin_more();
      while (!blocks.next_is_ready()) {
        if (!co_await blocks.next_ready()) co_return ECANCELED;
      }
      payload = blocks.pop();
      if (blocks.failure() != 0) {
        s.op = "read";
        co_return blocks.failure();
      }
      if (s.zero_copy && is_zero_copy_forced(s) && blocks.buffer_index() < 0) {
        s.where = not_registered;
        co_return code::path_unavailable;
      }
      blocks.begin_more();
    }
    const std::size_t block_bytes = payload.size();
    const follows then = blocks.finished() ? follows::nothing : follows::more;
    if (blocks.finished() && s.options.length > 0) {
      look_await looking(s.from.core, s.from.fd.get());
      const result<file_look> now = co_await looking;
      const int changed = change_of(s, now);
      if (changed != 0) co_return changed;
    }
    while (!s.head.empty() || !payload.empty()) {
      const bool without_copy =
          !payload.empty() && may_leave_without_copy(s, blocks.buffer_index());
      if (!without_copy || !s.head.empty()) {
        outgoing call;
        const auto now = without_copy ? std::span<const std::byte>() : payload;
        taker.begins(kernel::now_ns());
        op_await send(s.from.core.loop(),
                      message_request(s, taker, call, now, without_copy ? follows::more : then),
                      taker.interval());
        const result<std::size_t> sent = co_await send;
        const bool wanted = s.from.core.blocks().wanted();
        const int failure = sent_plainly(s, taker, send, sent, payload, wanted, then);
        if (failure != 0) co_return failure;
        continue;
      }
      while (!window.has_room()) {
        const int failure = window.noticed(co_await window.notice());
        if (failure != 0) co_return failure;
      }
      taker.begins(kernel::now_ns());
      window.send(blocks.share(), payload, then, taker);
      while (window.is_sending()) co_await window.sent();
      const int failure = window.verdict(taker, s.from.core.blocks().wanted(), then);
      if (failure == code::path_unavailable) s.where = no_zero_copy;
      if (failure != 0) co_return failure;
      payload = payload.subspan(window.moved());
      if (!payload.empty() && window.moved() > 0) ++s.so_far.short_ops;
    }
    blocks.give_back();
    s.count_moved(block_bytes);
    if (s.dropper != nullptr) s.dropper->passed(s.next_offset());
  }
  co_return 0;
}

task<int> send_leased(sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  const stall_limits limits{knobs.timeout_ms, knobs.rate_min_bytes};
  op_pace taker(limits, op_pace::at_silence::try_once);
  scope* const task_scope = co_await this_scope{};
  const std::uint32_t flags = s.cache == cache_policy::dontcache ? kernel::dontcache_flag : 0;
  read_ahead blocks(s.from, {s.options.offset, s.options.length, s.unit, flags}, depth_of(s),
                    task_scope);
  page_dropper dropper(s.from, s.options.offset, page_state::clean, task_scope);
  if (s.cache == cache_policy::drop_behind) s.dropper = &dropper;
  zero_copy_window window(s.to, s.zero_copy ? knobs.zero_copy_depth : 0, task_scope,
                          is_zero_copy_forced(s) ? code::path_unavailable : 0, limits);
  int failure = co_await send_blocks(s, blocks, window, taker);
  s.so_far.last_byte = s.elapsed();
  co_await blocks.drained();
  failure = co_await window.finished(failure);
  if (s.dropper != nullptr) (void)co_await dropper.finished(s.next_offset());
  s.dropper = nullptr;
  s.so_far.ops += blocks.ops() + window.ops() + dropper.ops();
  s.so_far.short_ops += blocks.short_ops();
  s.so_far.zero_copy_bytes = window.zero_copy_bytes();
  if (s.so_far.zero_copy_bytes > s.so_far.bytes / 2) --s.so_far.copies;
  // Back to the page cache: whoever uses the file next knows nothing of alignment.
  if (s.so_far.path == path::direct) (void)set_direct(s.from, false);
  co_return failure;
}

// A file or socket that cannot be spliced is found out by trying; unless splice was forced the
// payload is then sent by copy, behind a head that may be on its way.
task<int> carry_out(sending& s) {
  if (s.so_far.path != path::splice) co_return co_await send_leased(s);
  const int failure = co_await send_spliced(s);
  if (failure != EOPNOTSUPP || s.so_far.bytes > 0) co_return failure;
  if (s.from.core.values().send.path == tuning::send_path_choice::splice) {
    s.where = no_splice;
    co_return code::path_unavailable;
  }
  take_path(s, {path::copy, no_splice}, {});
  co_return co_await send_leased(s);
}

void count(sending& s, bool whole) {
  tuning::send_counters& counters = s.from.core.counters().send;
  counters.bytes.add(s.so_far.bytes);
  if (!whole || s.options.length == 0) return;  // a head alone is none
  counters.transfers.add();
  switch (s.so_far.path) {
    case path::direct: counters.transfers_direct.add(); break;
    case path::copy: counters.transfers_copy.add(); break;
    case path::splice: counters.transfers_splice.add(); break;
    default: break;  // of other transfers
  }
}

}  // namespace

// A file that had not got the range at the start is found short by reading it; a device has no
// size.
int change_of(const sending& s, const result<file_look>& seen) {
  if (!seen) return seen.error().code;
  const kernel::inode_info& now = seen->inode;
  const std::uint64_t end = s.options.offset + s.options.length;
  if (now.bytes < end && s.at_start.bytes >= end) return code::end_of_stream;
  const bool same = now.bytes == s.at_start.bytes && now.modified_ns == s.at_start.modified_ns;
  return same || s.options.content != file_content::unchanging ? 0 : int{code::file_changed};
}

void do_not_wait(op_request& request) {
  request.route = op_route::loop_thread;
  request.accept_short = true;
  request.accept_again = true;
}

bool was_silent(const op_pace& taker, int failure) {
  return failure == ETIMEDOUT || (failure == EAGAIN && taker.is_last_try());
}

task<int> send_message(sending& s, std::span<const std::byte> payload) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  op_pace taker({knobs.timeout_ms, knobs.rate_min_bytes}, op_pace::at_silence::try_once);
  while (!s.head.empty() || !payload.empty()) {
    outgoing call;
    taker.begins(kernel::now_ns());
    op_await send(s.from.core.loop(), message_request(s, taker, call, payload, follows::nothing),
                  taker.interval());
    const result<std::size_t> sent = co_await send;
    const int failure = sent_plainly(s, taker, send, sent, payload, false, follows::nothing);
    if (failure != 0) co_return failure;
  }
  co_return 0;
}

namespace {

task<result<receipt>> send_at_all(stream& to, file& from, send_options options, receipt* progress) {
  receipt own;
  receipt& so_far = progress != nullptr ? *progress : own;
  so_far = {.begun = std::chrono::steady_clock::now()};
  if (!to || !from) co_return fail(EBADF, "send_from_file", "the stream or the file is closed");
  sending s{to, from.state(), options, so_far, options.head};
  if (options.length > op_no_offset / 2 - std::min(options.offset, op_no_offset / 2)) {
    co_return fail(EINVAL, "send_from_file", "a range past 2^63");
  }
  const transfer_claim claim(
      s.from, may_be_direct(s) ? transfer_claim::hold::alone : transfer_claim::hold::shared);
  if (!claim) co_return fail(EBUSY, "send_from_file", "another transfer has the file");
  std::optional<file_look> seen;
  if (!options.as_seen || may_be_direct(s)) {
    look_await looking(s.from.core, s.from.fd.get());
    const result<file_look> found = co_await looking;
    if (!found) co_return std::unexpected(found.error());
    s.from.lies_on(found->on);
    s.at_start = info_of(found->inode);
    if (may_be_direct(s)) seen = *found;
  }
  if (options.as_seen) s.at_start = *options.as_seen;
  const result<void> chosen = choose_path(s, seen);
  if (!chosen) co_return std::unexpected(chosen.error());
  const int failure = co_await carry_out(s);
  s.so_far.stored = s.elapsed();
  if (s.so_far.path == path::splice) s.so_far.last_byte = s.so_far.stored;
  count(s, failure == 0);
  const bool head_begun = s.head.size() < options.head.size();
  if (head_begun && s.so_far.first_byte.count() == 0) s.so_far.first_byte = s.so_far.last_byte;
  if (failure == code::path_unavailable) s.so_far.reason = s.where;
  if (failure != 0) co_return fail(failure, s.op, s.where);
  co_return s.so_far;
}

}  // namespace

task<result<receipt>> send_from_file(stream& to, file& from, send_options options,
                                     receipt* progress) {
  task<result<receipt>> whole = send_at_all(to, from, options, progress);
  if (options.deadline.count() == 0 || !from) return whole;
  return ended_within(from.state().core, options.deadline, std::move(whole));
}

}  // namespace sluice
