// File to socket. Through leases: blocks are read ahead of the send, by O_DIRECT (direct) or from
// the page cache (copy), and leave in order; the head goes with the first block, in one call. The
// path splice, past our memory, is in send_spliced.cpp.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/this_scope.hpp"
#include "storage/read_ahead.hpp"
#include "transfer/planner.hpp"
#include "transfer/sending.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

std::uint32_t copies_of(path p) { return p == path::splice ? 0 : p == path::direct ? 1 : 2; }

void take_path(sending& s, const plan& chosen, const kernel::direct_alignment& alignment) {
  s.so_far.path = chosen.chosen;
  s.so_far.reason = chosen.reason;
  s.so_far.copies = copies_of(chosen.chosen);
  s.unit = chosen.chosen == path::direct ? alignment.offset_bytes : 1;
}

bool may_be_direct(const sending& s) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  return knobs.path == tuning::path_choice::direct || s.options.length >= knobs.direct_min_bytes;
}

result<void> choose_path(sending& s) {
  const tuning::knob_values& values = s.from.core.values();
  const int fd = s.from.fd.get();
  kernel::direct_alignment alignment;
  if (may_be_direct(s)) alignment = kernel::alignment_of(fd);
  plan chosen = plan_send({s.options.offset, s.options.length, s.options.content}, alignment,
                          {values.memory.block_bytes, s.from.core.tried().splice}, values.send);
  if (chosen.refused) return fail(code::path_unavailable, "send_from_file", chosen.reason);
  if (may_be_direct(s) && kernel::set_direct(fd, chosen.chosen == path::direct) != 0) {
    if (values.send.path == tuning::path_choice::direct) {
      return fail(code::path_unavailable, "fcntl", "O_DIRECT refused by the filesystem");
    }
    chosen = {path::copy, "O_DIRECT refused by the filesystem"};
  }
  take_path(s, chosen, alignment);
  return {};
}

std::size_t depth_of(const sending& s) {
  const tuning::knob_values& values = s.from.core.values();
  const std::uint64_t blocks = s.options.length / values.memory.block_bytes + 2;
  return static_cast<std::size_t>(std::min<std::uint64_t>(blocks, values.send.depth));
}

std::uint64_t left_in(const msghdr& message) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < message.msg_iovlen; ++i) bytes += message.msg_iov[i].iov_len;
  return bytes;
}

// What is left of the head, and blocks as they come. One coroutine frame for all of them.
task<int> send_blocks(sending& s, read_ahead& blocks) {
  const tuning::send_knobs& knobs = s.from.core.values().send;
  const stall_watch watch({knobs.timeout_ms, knobs.rate_min_bytes});
  while (!blocks.finished() || !s.head.empty()) {
    std::span<const std::byte> payload;
    if (!blocks.finished()) {
      if (blocks.needs_lease()) {
        lease_await leasing(s.from.core.blocks(), s.from.core.loop(), watch.lease_timeout());
        result<lease> leased = co_await leasing;
        if (!leased) co_return leased.error().code == ETIMEDOUT ? ENOBUFS : leased.error().code;
        blocks.begin(std::move(*leased));
      }
      blocks.begin_more();
      while (!blocks.next_is_ready()) {
        if (!co_await blocks.next_ready()) co_return ECANCELED;
      }
      payload = blocks.pop();
      if (blocks.failure() != 0) co_return blocks.failure();
      blocks.begin_more();
    }
    std::array<iovec, 2> parts{{{const_cast<std::byte*>(s.head.data()), s.head.size()},
                                {const_cast<std::byte*>(payload.data()), payload.size()}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    s.head = {};
    for (std::uint64_t left = left_in(message); left > 0; left = left_in(message)) {
      op_request request;
      request.kind = op_kind::sendmsg;
      request.fd = s.to.fd();
      request.data = &message;
      // MSG_MORE between blocks: the last one pushes what is left of a packet.
      request.flags = MSG_NOSIGNAL | MSG_WAITALL;
      if (!blocks.finished()) request.flags |= MSG_MORE;
      op_await send(s.from.core.loop(), request, watch.interval());
      const result<std::size_t> sent = co_await send;
      ++s.so_far.ops;
      if (sent) break;
      const int failure = sent.error().code == ETIMEDOUT
                              ? watch.verdict(send.moved(), s.from.core.blocks().wanted())
                              : sent.error().code;
      if (failure != 0) co_return failure;
      ++s.so_far.short_ops;
    }
    blocks.give_back();
    s.count_moved(payload.size());
  }
  co_return 0;
}

task<int> send_leased(sending& s) {
  read_ahead blocks(s.from, {s.options.offset, s.options.length, s.unit}, depth_of(s),
                    co_await this_scope{});
  const int failure = co_await send_blocks(s, blocks);
  co_await blocks.drained();
  s.so_far.ops += blocks.ops();
  // Back to the page cache: whoever uses the file next knows nothing of alignment.
  if (s.so_far.path == path::direct) (void)kernel::set_direct(s.from.fd.get(), false);
  co_return failure;
}

// A file or socket that cannot be spliced is found out by trying; unless splice was forced the
// payload is then sent by copy, behind a head that may be on its way.
task<int> carry_out(sending& s) {
  if (s.so_far.path != path::splice) co_return co_await send_leased(s);
  const int failure = co_await send_spliced(s);
  if (failure != EOPNOTSUPP || s.so_far.bytes > 0) co_return failure;
  if (s.from.core.values().send.path == tuning::path_choice::splice) {
    co_return code::path_unavailable;
  }
  take_path(s, {path::copy, "splice refused by the filesystem or socket"}, {});
  co_return co_await send_leased(s);
}

void count(sending& s, bool whole) {
  tuning::send_counters& counters = s.from.core.counters().send;
  counters.bytes.add(s.so_far.bytes);
  if (!whole) return;
  counters.transfers.add();
  switch (s.so_far.path) {
    case path::direct: counters.transfers_direct.add(); break;
    case path::copy: counters.transfers_copy.add(); break;
    case path::splice: counters.transfers_splice.add(); break;
    default: break;  // of other transfers
  }
}

}  // namespace

task<result<receipt>> send_from_file(stream& to, file& from, send_options options,
                                     receipt* progress) {
  sending s{to, from.state(), options, {}, options.head};
  s.begun_ns = kernel::now_ns();
  if (options.length > op_no_offset / 2 - std::min(options.offset, op_no_offset / 2)) {
    co_return fail(EINVAL, "send_from_file", "a range past 2^63");
  }
  const transfer_claim claim(
      s.from, may_be_direct(s) ? transfer_claim::hold::alone : transfer_claim::hold::shared);
  if (!claim) co_return fail(EBUSY, "send_from_file", "another transfer has the file");
  const result<void> chosen = choose_path(s);
  if (!chosen) co_return std::unexpected(chosen.error());
  const int failure = co_await carry_out(s);
  s.so_far.last_byte = s.elapsed();
  s.so_far.stored = s.so_far.last_byte;
  count(s, failure == 0);
  const bool head_begun = s.head.size() < options.head.size();
  if (head_begun && s.so_far.first_byte.count() == 0) s.so_far.first_byte = s.so_far.last_byte;
  if (progress != nullptr) *progress = s.so_far;
  if (failure != 0) co_return fail(failure, "send", "send_from_file");
  co_return s.so_far;
}

}  // namespace sluice
