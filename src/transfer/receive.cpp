// Socket to file. Two paths are one flow: lease a block, fill it, write it behind the next
// receive. They differ in what the file is given:
//   direct  whole aligned blocks by O_DIRECT; the prefix is copied into the first block so that
//           everything after it stays aligned; the tail is padded with zeroes and cut off again
//           (kernel-notes/padded_tail_then_truncate.md)
//   copy    exactly the bytes received, the prefix as a part of its own, through the page cache;
//           no memcpy
// A direct range that does not begin or end on a page has edges (range_parts.hpp): they are
// received in their turn, and written through the page cache after the body. The other paths,
// splice and mapped, pass by our memory: receive_spliced.cpp, receive_mapped.cpp. A check of the
// body is asked between the receive and the write of each block, by the window of writes.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "core/this_scope.hpp"
#include "kernel/page_cache.hpp"
#include "kernel/socket.hpp"
#include "storage/look.hpp"
#include "storage/page_dropper.hpp"
#include "storage/reserve.hpp"
#include "storage/write_window.hpp"
#include "transfer/deadline.hpp"
#include "transfer/op_count.hpp"
#include "transfer/planner.hpp"
#include "transfer/receiving.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {

namespace {

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

bool is_direct_forced(const receiving& r) {
  return r.into.core.values().receive.path == tuning::path_choice::direct ||
         r.options.cache == cache_policy::direct;
}

file_facts facts_of(const receiving& r, const file_look& seen) {
  const int fd = r.into.fd.get();
  file_facts facts{.direct = kernel::alignment_of(fd, seen.inode, seen.on),
                   .direct_distrust = seen.on.direct_distrust()};
  if (r.into.core.values().receive.path == tuning::path_choice::mapped) {
    facts.no_space_promise = seen.on.space_distrust();
    facts.readable = kernel::is_readable(fd);
  }
  if (r.options.cache == cache_policy::dontcache) facts.dontcache = kernel::has_dontcache(fd);
  return facts;
}

// Back to the page cache: whoever uses the file next knows nothing of alignment.
void leave_direct(file_state& file) {
  [[maybe_unused]] const int refusal = set_direct(file, false);
}

range_parts parts_of(const receiving& r, const file_look& seen,
                     const kernel::direct_alignment& alignment) {
  return divide({.offset = r.options.offset,
                 .length = r.options.length,
                 .unit = alignment.offset_bytes,
                 .page_bytes = kernel::page_bytes(),
                 .file_bytes = seen.inode.bytes,
                 // A check sees all in order, so there are no edges: its user writes alone.
                 .own = r.into.made_here() || r.options.check != nullptr});
}

// A plan to write directly, once the file has been looked at more closely.
plan direct_or_not(const receiving& r, const plan& made, const file_look& seen,
                   const kernel::direct_alignment& alignment) {
  plan other = made;
  other.chosen = path::copy;
  const range_parts parts = parts_of(r, seen, alignment);
  if (parts.has_edges() && r.options.check != nullptr) {
    other.reason = "a check wants to see an unaligned range in order";
  } else if (parts.body == 0 && r.options.length > 0) {
    other.reason = "the range has no page of its own";
  } else if (set_direct(r.into, true) != 0) {
    other.reason = "O_DIRECT refused by the filesystem";
  } else {
    return made;
  }
  if (!is_direct_forced(r)) return other;
  return {path::direct, other.reason, true};
}

result<void> choose_path(receiving& r, const file_look& seen) {
  const tuning::knob_values& values = r.into.core.values();
  const file_facts facts = facts_of(r, seen);
  r.into.lies_on(seen.on);
  const range_request range{.offset = r.options.offset,
                            .length = r.options.length,
                            .checked = r.options.check != nullptr,
                            .cache = r.options.cache};
  plan chosen = plan_receive(range, facts, {values.memory.block_bytes, r.into.core.tried().splice},
                             values.receive);
  if (chosen.chosen == path::direct && !chosen.refused)
    chosen = direct_or_not(r, chosen, seen, facts.direct);
  r.so_far.path = chosen.chosen;
  r.so_far.reason = chosen.reason;  // of a refusal too
  if (chosen.refused) return fail(code::path_unavailable, "receive_to_file", chosen.reason);
  r.so_far.copies = chosen.chosen == path::copy ? 2 : 1;
  r.cache = chosen.cache;
  r.parts = {.body = r.options.length};
  if (!r.direct()) {
    leave_direct(r.into);  // it may have come so
    return {};
  }
  r.unit = facts.direct.offset_bytes;
  r.parts = parts_of(r, seen, facts.direct);
  return {};
}

// Takes the space before the first byte, so that a full disk is told at once and extents stay long.
// Short bodies of the copy path do without: one write takes their space as early.
task<result<void>> reserve_body(receiving& r) {
  const tuning::knob_values& values = r.into.core.values();
  const bool mapped = r.so_far.path == path::mapped;  // must not fail: a page without space
  const bool wanted =
      values.storage.preallocate && (r.direct() || r.options.length > values.memory.block_bytes);
  if (r.options.length == 0 || !(wanted || mapped)) co_return result<void>{};
  const std::uint64_t end = r.options.offset + r.options.length;
  const std::uint64_t reserved_end = r.parts.padded ? rounded_up(end, r.unit) : end;
  const result<void> reserved = co_await reserve_space(
      r.into, r.options.offset, reserved_end - r.options.offset, r.so_far.ops);
  if (reserved || (!mapped && reserved.error().code == EOPNOTSUPP)) co_return result<void>{};
  if (reserved.error().code != EOPNOTSUPP) co_return reserved;
  co_return fail(code::path_unavailable, "fallocate", "the filesystem reserves no space");
}

// Writes the block, of which `bytes` belong to the file.
void write_direct(receiving& r, write_window& window, lease block, std::size_t bytes,
                  write_place place) {
  place.padding = static_cast<std::size_t>(rounded_up(bytes, r.unit)) - bytes;
  std::memset(block.data() + bytes, 0, place.padding);
  window.write(std::move(block), bytes, place);
}

// What goes into the file next: a part of the prefix, then bytes still to be received.
struct block_plan {
  std::span<const std::byte> prefix;
  std::size_t at = 0;   // where in the block the received bytes go
  std::size_t own = 0;  // how many
};

// The next `bytes` of the prefix, or what there is of it.
std::span<const std::byte> take(std::span<const std::byte>& prefix, std::uint64_t bytes) {
  const auto taken =
      prefix.first(static_cast<std::size_t>(std::min<std::uint64_t>(prefix.size(), bytes)));
  prefix = prefix.subspan(taken.size());
  return taken;
}

block_plan plan_block(const receiving& r, std::span<const std::byte>& prefix, std::uint64_t left) {
  const std::size_t block_bytes = r.into.core.blocks().block_bytes();
  block_plan p;
  p.prefix = take(prefix, r.direct() ? std::min<std::uint64_t>(block_bytes, left) : left);
  p.at = r.direct() ? p.prefix.size() : 0;
  p.own =
      static_cast<std::size_t>(std::min<std::uint64_t>(block_bytes - p.at, left - p.prefix.size()));
  return p;
}

void copy_prefix(receiving& r, const lease& block, const block_plan& p) {
  if (!r.direct() || p.prefix.empty()) return;
  std::memcpy(block.data(), p.prefix.data(), p.prefix.size());
  r.so_far.copied_bytes += p.prefix.size();
}

// `given` bytes of the body went before.
void hand_over(receiving& r, write_window& window, lease block, const block_plan& p,
               std::uint64_t given) {
  const write_place place{.offset = r.options.offset + given,
                          .ends_body = given + p.prefix.size() + p.own == r.options.length};
  if (r.direct()) {
    write_direct(r, window, std::move(block), p.at + p.own, place);
    return;
  }
  const iovec parts[2] = {{const_cast<std::byte*>(p.prefix.data()), p.prefix.size()},
                          {block.data(), p.own}};
  const bool prefixed = !p.prefix.empty();
  const std::size_t count = (prefixed ? 1U : 0U) + (p.own > 0 ? 1U : 0U);
  window.write(std::move(block), std::span(prefixed ? parts : parts + 1, count), place);
}

// The page-cache writes that are surely done when `given` bytes have been handed over.
void pass_dropper(receiving& r, std::uint64_t given) {
  const std::uint64_t in_flight = copy_depth_max * r.into.core.blocks().block_bytes();
  if (r.dropper != nullptr && given > in_flight)
    r.dropper->passed(r.options.offset + given - in_flight);
}

// Fills an edge of a direct range, from the prefix and then from the peer.
task<int> receive_edge(receiving& r, std::span<std::byte> edge,
                       std::span<const std::byte>& prefix) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  op_pace sender({knobs.timeout_ms, knobs.rate_min_bytes});
  const std::span<const std::byte> known = take(prefix, edge.size());
  std::ranges::copy(known, edge.begin());
  r.received += known.size();
  r.so_far.copied_bytes += known.size();
  for (std::size_t filled = known.size(); filled < edge.size();) {
    const op_request wanted = receive_request(r, edge.data() + filled, edge.size() - filled);
    sender.begins(kernel::now_ns());
    op_await recv(r.into.core.loop(), wanted, sender.interval());
    const result<std::size_t> got = co_await recv;
    filled += recv.moved();
    const int failure =
        received_verdict(r, sender, got, recv, filled == edge.size(), holding::nothing);
    if (failure != 0) co_return failure;
  }
  co_return 0;
}

// The flow itself, for the body of the range; the caller drains the window whatever this says. One
// coroutine frame for all blocks: nothing is allocated per block.
task<int> receive_blocks(receiving& r, write_window& window, std::span<const std::byte>& prefix) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  op_pace sender({knobs.timeout_ms, knobs.rate_min_bytes});
  buffer_class& blocks = r.into.core.blocks();
  if (r.options.length == 0) window.end_empty_body();
  const std::uint64_t end = r.parts.head + r.parts.body;
  for (std::uint64_t given = r.parts.head; given < end;) {
    const block_plan p = plan_block(r, prefix, end - given);
    lease block;
    if (r.direct() || p.own > 0) {
      // While blocks are scarce one is taken only for bytes that are there, or the slow would keep
      // them from the fast.
      if (p.own > 0 && blocks.scarce()) {
        sender.begins(kernel::now_ns());
        op_await readable = r.from.wait_readable(sender.interval());
        const result<std::size_t> ready = co_await readable;
        sender.waited(kernel::now_ns());
        count_op(r.so_far, readable.awaited());
        if (!ready) co_return ready.error().code;
      }
      lease_await leasing(blocks, r.into.core.loop(), sender.lease_timeout());
      result<lease> leased = co_await leasing;
      if (!leased) co_return leased.error().code == ETIMEDOUT ? ENOBUFS : leased.error().code;
      block = std::move(*leased);
    }
    copy_prefix(r, block, p);
    r.received += p.prefix.size();
    for (std::size_t filled = 0; filled < p.own;) {
      sender.begins(kernel::now_ns());
      op_await recv(r.into.core.loop(),
                    receive_request(r, block.data() + p.at + filled, p.own - filled),
                    sender.interval());
      const result<std::size_t> got = co_await recv;
      filled += recv.moved();
      const int failure = received_verdict(r, sender, got, recv, filled == p.own, holding::block);
      if (failure != 0) co_return failure;
    }
    if (!window.has_room() && !co_await window.room()) co_return ECANCELED;
    if (window.failure() != 0) co_return window.failure();
    hand_over(r, window, std::move(block), p, given);
    given += p.prefix.size() + p.own;
    pass_dropper(r, given);
  }
  co_return 0;
}

std::size_t window_depth(const receiving& r) {
  const tuning::knob_values& values = r.into.core.values();
  const std::uint64_t blocks = r.options.length / values.memory.block_bytes + 1;
  const std::size_t most = write_depth(r.into, values.receive.depth);
  return static_cast<std::size_t>(std::min<std::uint64_t>(blocks, most));
}

// Cuts off the padding of the tail.
task<result<void>> cut_padding(receiving& r) {
  if (!r.parts.padded) co_return result<void>{};
  op_request request = on_file(r.into, op_kind::ftruncate);
  request.length = r.options.offset + r.options.length;
  op_await cutting(r.into.core.loop(), request);
  const result<std::size_t> cut = co_await cutting;
  count_op(r.so_far, cutting.awaited());
  if (!cut) co_return fail(cut.error().code, "ftruncate", "receive_to_file");
  co_return result<void>{};
}

task<result<void>> write_edge(receiving& r, std::span<std::byte> edge, std::uint64_t offset) {
  if (edge.empty()) co_return result<void>{};
  op_request request = on_file(r.into, op_kind::write);
  request.data = edge.data();
  request.length = edge.size();
  request.offset = offset;
  op_await writing(r.into.core.loop(), request);
  const result<std::size_t> written = co_await writing;
  count_op(r.so_far, writing.awaited());
  r.into.core.counters().receive.edges.add();
  if (!written) co_return fail(written.error().code, "write", "receive_to_file");
  r.so_far.misrouted_bytes += edge.size();
  co_return result<void>{};
}

// Head, body and tail come in this order; the edges are written last.
task<result<void>> receive_parts(receiving& r, write_window& window) {
  const std::size_t edge_bytes = r.parts.head + r.parts.tail;
  const std::unique_ptr<std::byte[]> memory(edge_bytes > 0 ? new std::byte[edge_bytes] : nullptr);
  const std::span<std::byte> edges(memory.get(), edge_bytes);
  std::span<const std::byte> prefix = r.options.prefix;
  int failure = co_await receive_edge(r, edges.first(r.parts.head), prefix);
  if (failure == 0) failure = co_await receive_blocks(r, window, prefix);
  if (failure == 0) failure = co_await receive_edge(r, edges.last(r.parts.tail), prefix);
  if (failure == 0) r.so_far.last_byte = r.elapsed();
  const result<void> written = co_await window.drained();
  r.so_far.ops += window.ops();
  r.so_far.short_ops += window.short_ops();
  if (failure != 0 && failure != window.failure())
    co_return fail(failure, "recv", "receive_to_file");
  if (!written) co_return written;
  const result<void> cut = co_await cut_padding(r);
  if (!cut || edge_bytes == 0) co_return cut;
  leave_direct(r.into);
  const result<void> head = co_await write_edge(r, edges.first(r.parts.head), r.options.offset);
  if (!head) co_return head;
  const std::uint64_t end = r.options.offset + r.options.length;
  co_return co_await write_edge(r, edges.last(r.parts.tail), end - r.parts.tail);
}

task<result<void>> by_path(receiving& r) {
  scope* const task_scope = co_await this_scope{};
  if (r.so_far.path == path::splice || r.so_far.path == path::mapped) {
    const bool spliced = r.so_far.path == path::splice;
    const int failure = spliced ? co_await receive_spliced(r) : co_await receive_mapped(r);
    if (failure != 0) co_return fail(failure, spliced ? "splice" : "recv", r.where);
    co_return result<void>{};
  }
  write_window window(r.into, window_depth(r), task_scope, r.options.check);
  if (r.cache == cache_policy::dontcache) window.use_flags(kernel::dontcache_flag);
  co_return co_await receive_parts(r, window);
}

task<result<void>> carry_out(receiving& r) {
  const result<void> reserved = co_await reserve_body(r);
  if (!reserved) co_return reserved;
  if (r.cache != cache_policy::drop_behind) co_return co_await by_path(r);
  page_dropper dropper(r.into, r.options.offset, page_state::dirty, co_await this_scope{});
  r.dropper = &dropper;
  const result<void> done = co_await by_path(r);
  const int failure = co_await dropper.finished(r.options.offset + r.received);
  r.so_far.ops += dropper.ops();
  if (done && failure != 0) co_return fail(failure, "sync_file_range", "receive_to_file");
  co_return done;
}

void count(receiving& r, bool whole) {
  tuning::receive_counters& counters = r.into.core.counters().receive;
  counters.bytes.add(r.received);
  counters.copied_bytes.add(r.so_far.copied_bytes);
  if (!whole) return;
  switch (r.so_far.path) {
    case path::direct: counters.transfers_direct.add(); break;
    case path::copy: counters.transfers_copy.add(); break;
    case path::splice: counters.transfers_splice.add(); break;
    case path::mapped: counters.transfers_mapped.add(); break;
    default: break;  // of other transfers
  }
}

}  // namespace

// A connection that both sides have ended looks like one that was reset
// (kernel-notes/closed_tcp_looks_reset.md).
int end_of(const stream& from) {
  const bool was_reset = !from.has_sent_end() && kernel::was_reset(from.fd());
  return was_reset ? ECONNRESET : code::end_of_stream;
}

op_request receive_request(const receiving& r, std::byte* into, std::size_t bytes) {
  op_request request;
  request.kind = op_kind::recv;
  request.fd = r.from.fd();
  request.flags = MSG_WAITALL;
  request.data = into;
  request.length = bytes;
  return request;
}

int received_verdict(receiving& r, op_pace& sender, const result<std::size_t>& got,
                     const op_await& recv, bool filled, holding held) {
  const std::uint64_t bytes = recv.moved();
  count_op(r.so_far, recv.awaited());
  r.received += bytes;
  if (r.so_far.first_byte.count() == 0 && bytes > 0) r.so_far.first_byte = r.elapsed();
  if (!filled && got) return end_of(r.from);
  if (!filled && got.error().code != ETIMEDOUT) return got.error().code;
  if (r.left() == 0) return 0;
  const bool wanted = held == holding::block && r.into.core.blocks().wanted();
  const int slow = sender.ended(bytes, !filled, wanted, kernel::now_ns());
  if (!filled && slow == 0) ++r.so_far.short_ops;
  return slow;
}

namespace {

task<result<receipt>> receive_at_all(stream& from, file& into, receive_options options,
                                     receipt* progress) {
  receipt own;
  receipt& so_far = progress != nullptr ? *progress : own;
  so_far = {.begun = std::chrono::steady_clock::now()};
  if (!from || !into) co_return fail(EBADF, "receive_to_file", "the stream or the file is closed");
  receiving r{from, into.state(), options, so_far};
  if (options.prefix.size() > options.length)
    co_return fail(EINVAL, "receive_to_file", "prefix longer than length");
  if (options.length > op_no_offset / 2 - std::min(options.offset, op_no_offset / 2))
    co_return fail(EINVAL, "receive_to_file", "a range past 2^63");
  const transfer_claim claim(r.into, transfer_claim::hold::alone);
  if (!claim) co_return fail(EBUSY, "receive_to_file", "another transfer has the file");
  look_await looking(r.into.core, r.into.fd.get());
  const result<file_look> seen = co_await looking;
  if (!seen) co_return std::unexpected(seen.error());
  const result<void> chosen = choose_path(r, *seen);
  if (!chosen) co_return std::unexpected(chosen.error());
  const result<void> done = co_await carry_out(r);
  leave_direct(r.into);
  r.so_far.bytes = r.received;
  r.so_far.stored = r.elapsed();
  count(r, done.has_value());
  if (!done && done.error().code == code::path_unavailable) r.so_far.reason = done.error().where;
  if (!done) co_return std::unexpected(done.error());
  co_return r.so_far;
}

}  // namespace

task<result<receipt>> receive_to_file(stream& from, file& into, receive_options options,
                                      receipt* progress) {
  task<result<receipt>> whole = receive_at_all(from, into, options, progress);
  if (options.deadline.count() == 0 || !into) return whole;
  return ended_within(into.state().core, options.deadline, std::move(whole));
}

}  // namespace sluice
