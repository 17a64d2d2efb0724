// Socket to file. Two paths are one flow: lease a block, fill it, write it behind the next
// receive. They differ in what the file is given:
//   direct  whole aligned blocks by O_DIRECT; the prefix is copied into the first block so that
//           everything after it stays aligned; the tail is padded with zeroes and cut off again
//           (kernel-notes/padded_tail_then_truncate.md)
//   copy    exactly the bytes received, the prefix as a part of its own, through the page cache;
//           no memcpy
// The third, splice, passes by our memory: receive_spliced.cpp. A check of the body is asked
// between the receive and the write of each block, by the window of writes.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/this_scope.hpp"
#include "kernel/socket.hpp"
#include "storage/reserve.hpp"
#include "storage/write_window.hpp"
#include "transfer/planner.hpp"
#include "transfer/receiving.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {

const char* name(path p) {
  switch (p) {
    case path::direct: return "direct";
    case path::splice: return "splice";
    case path::mapped: return "mapped";
    case path::reflink: return "reflink";
    case path::copy_file_range: return "copy_file_range";
    default: return "copy";
  }
}

namespace {

// A page-cache write copies while the block is warm: few behind the receive keep it so.
constexpr std::size_t copy_depth_max = 4;

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Whether the padding of the tail, and cutting it off again, would take bytes of the file that lie
// behind the range.
bool tail_would_harm(const receiving& r, const kernel::direct_alignment& alignment) {
  const std::uint64_t end = r.options.offset + r.options.length;
  if (!alignment.possible() || end % alignment.offset_bytes == 0) return false;
  const result<kernel::inode_info> inode = kernel::inode_of(r.into.fd.get());
  return !inode || inode->bytes > end;
}

result<void> choose_path(receiving& r) {
  const tuning::knob_values& values = r.into.core.values();
  const kernel::direct_alignment alignment = kernel::alignment_of(r.into.fd.get());
  const range_request range{.offset = r.options.offset,
                            .length = r.options.length,
                            .checked = r.options.check != nullptr,
                            .cache = r.options.cache};
  plan chosen =
      plan_receive(range, {.direct = alignment},
                   {values.memory.block_bytes, r.into.core.tried().splice}, values.receive);
  if (chosen.chosen == path::direct && !chosen.refused && tail_would_harm(r, alignment)) {
    const bool forced = values.receive.path == tuning::path_choice::direct;
    chosen = {forced ? path::direct : path::copy, "the range ends unaligned inside the file",
              forced};
  }
  r.so_far.path = chosen.chosen;
  r.so_far.reason = chosen.reason;  // of a refusal too
  if (chosen.refused) return fail(code::path_unavailable, "receive_to_file", chosen.reason);
  const int refusal = kernel::set_direct(r.into.fd.get(), chosen.chosen == path::direct);
  if (refusal != 0) {
    if (values.receive.path == tuning::path_choice::direct) {
      return fail(code::path_unavailable, "fcntl", "O_DIRECT refused by the filesystem");
    }
    chosen = {path::copy, "O_DIRECT refused by the filesystem"};
  }
  r.so_far.path = chosen.chosen;
  r.so_far.reason = chosen.reason;
  r.so_far.copies = chosen.chosen == path::copy ? 2 : 1;
  r.unit = chosen.chosen == path::direct ? alignment.offset_bytes : 1;
  return {};
}

// Back to the page cache: whoever uses the file next knows nothing of alignment.
void leave_direct(int fd) { [[maybe_unused]] const int refusal = kernel::set_direct(fd, false); }

// Takes the space before the first byte, so that a full disk is told at once and extents stay long.
// Short bodies of the copy path do without: one write takes their space as early.
task<result<void>> reserve_body(receiving& r) {
  const tuning::knob_values& values = r.into.core.values();
  if (!values.storage.preallocate || r.options.length == 0) co_return result<void>{};
  if (!r.direct() && r.options.length <= values.memory.block_bytes) co_return result<void>{};
  ++r.so_far.ops;
  const result<void> reserved =
      co_await reserve_space(r.into, r.options.offset, rounded_up(r.options.length, r.unit));
  if (!reserved && reserved.error().code != EOPNOTSUPP) co_return reserved;
  co_return result<void>{};
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

// What a receive that moved `bytes` means for the transfer: 0 go on, else why it ends.
int verdict(receiving& r, const stall_watch& watch, const result<std::size_t>& got,
            std::uint64_t bytes, bool filled) {
  ++r.so_far.ops;
  r.received += bytes;
  if (r.so_far.first_byte.count() == 0 && bytes > 0) r.so_far.first_byte = r.elapsed();
  if (filled) return 0;
  ++r.so_far.short_ops;
  if (got) return kernel::was_reset(r.from.fd()) ? ECONNRESET : code::end_of_stream;
  if (got.error().code != ETIMEDOUT) return got.error().code;
  return watch.verdict(bytes, r.into.core.blocks().wanted());
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

block_plan plan_block(const receiving& r, std::span<const std::byte>& prefix, std::uint64_t left) {
  const std::size_t block_bytes = r.into.core.blocks().block_bytes();
  block_plan p;
  const std::size_t front = r.direct() ? std::min(prefix.size(), block_bytes) : prefix.size();
  p.prefix = prefix.first(front);
  prefix = prefix.subspan(front);
  p.at = r.direct() ? front : 0;
  p.own = static_cast<std::size_t>(std::min<std::uint64_t>(block_bytes - p.at, left - front));
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

// The flow itself; the caller drains the window whatever this says. One coroutine frame for all
// blocks: nothing is allocated per block.
task<int> receive_blocks(receiving& r, write_window& window) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  const stall_watch watch({knobs.timeout_ms, knobs.rate_min_bytes});
  buffer_class& blocks = r.into.core.blocks();
  std::span<const std::byte> prefix = r.options.prefix;
  if (r.options.length == 0) window.end_empty_body();
  for (std::uint64_t given = 0; given < r.options.length;) {
    const block_plan p = plan_block(r, prefix, r.options.length - given);
    lease block;
    if (r.direct() || p.own > 0) {
      // While blocks are scarce one is taken only for bytes that are there, or the slow would keep
      // them from the fast.
      if (p.own > 0 && blocks.scarce()) {
        op_await readable = r.from.wait_readable(watch.interval());
        const result<std::size_t> ready = co_await readable;
        ++r.so_far.ops;
        if (!ready) co_return ready.error().code;
      }
      lease_await leasing(blocks, r.into.core.loop(), watch.lease_timeout());
      result<lease> leased = co_await leasing;
      if (!leased) co_return leased.error().code == ETIMEDOUT ? ENOBUFS : leased.error().code;
      block = std::move(*leased);
    }
    copy_prefix(r, block, p);
    r.received += p.prefix.size();
    for (std::size_t filled = 0; filled < p.own;) {
      op_await recv(r.into.core.loop(),
                    receive_request(r, block.data() + p.at + filled, p.own - filled),
                    watch.interval());
      const result<std::size_t> got = co_await recv;
      filled += recv.moved();
      const int failure = verdict(r, watch, got, recv.moved(), filled == p.own);
      if (failure != 0) co_return failure;
    }
    if (!window.has_room() && !co_await window.room()) co_return ECANCELED;
    if (window.failure() != 0) co_return window.failure();
    hand_over(r, window, std::move(block), p, given);
    given += p.prefix.size() + p.own;
  }
  r.so_far.last_byte = r.elapsed();
  co_return 0;
}

std::size_t window_depth(const receiving& r) {
  const tuning::knob_values& values = r.into.core.values();
  const std::uint64_t blocks = r.options.length / values.memory.block_bytes + 1;
  const std::size_t most = r.direct() ? values.receive.depth
                                      : std::min<std::size_t>(values.receive.depth, copy_depth_max);
  return static_cast<std::size_t>(std::min<std::uint64_t>(blocks, most));
}

// Cuts off the padding of the tail; a file that was reserved in whole units has it even without
// one.
task<result<void>> cut_padding(receiving& r) {
  if (r.options.length % r.unit == 0) co_return result<void>{};
  op_request request = on_file(r.into, op_kind::ftruncate);
  request.length = r.options.offset + r.options.length;
  op_await cutting(r.into.core.loop(), request);
  const result<std::size_t> cut = co_await cutting;
  ++r.so_far.ops;
  if (!cut) co_return fail(cut.error().code, "ftruncate", "receive_to_file");
  co_return result<void>{};
}

task<result<void>> carry_out(receiving& r) {
  const result<void> reserved = co_await reserve_body(r);
  if (!reserved) co_return reserved;
  if (r.so_far.path == path::splice) {
    const int failure = co_await receive_spliced(r);
    if (failure != 0) co_return fail(failure, "splice", "receive_to_file");
    co_return result<void>{};
  }
  write_window window(r.into, window_depth(r), co_await this_scope{}, r.options.check);
  const int failure = co_await receive_blocks(r, window);
  const result<void> written = co_await window.drained();
  r.so_far.ops += window.ops();
  if (failure != 0 && failure != window.failure())
    co_return fail(failure, "recv", "receive_to_file");
  if (!written) co_return written;
  co_return co_await cut_padding(r);
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

task<result<receipt>> receive_to_file(stream& from, file& into, receive_options options,
                                      receipt* progress) {
  receipt own;
  receiving r{from, into.state(), options, progress != nullptr ? *progress : own};
  r.so_far = {};
  r.begun_ns = static_cast<std::uint64_t>(kernel::now_ns());
  if (options.prefix.size() > options.length)
    co_return fail(EINVAL, "receive_to_file", "prefix longer than length");
  if (options.length > op_no_offset / 2 - std::min(options.offset, op_no_offset / 2))
    co_return fail(EINVAL, "receive_to_file", "a range past 2^63");
  const transfer_claim claim(r.into, transfer_claim::hold::alone);
  if (!claim) co_return fail(EBUSY, "receive_to_file", "another transfer has the file");
  const result<void> chosen = choose_path(r);
  if (!chosen) co_return std::unexpected(chosen.error());
  const result<void> done = co_await carry_out(r);
  leave_direct(r.into.fd.get());
  r.so_far.bytes = r.received;
  r.so_far.stored = r.elapsed();
  count(r, done.has_value());
  if (!done) co_return std::unexpected(done.error());
  co_return r.so_far;
}

}  // namespace sluice
