// What a peer sends: messages, and answers to requests, many of them in one call.
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <utility>

#include "peer.hpp"
#include "session.hpp"

namespace bt {

using sluice::result;
using sluice::task;

namespace {
constexpr std::size_t answers_max = 64;
constexpr std::chrono::seconds send_time{60};
}  // namespace

// Some requests and what answers them: heads of our own, payloads in one block.
struct peer::answer {
  std::array<wanted, answers_max> requests;
  std::array<std::array<std::byte, piece_head_bytes>, answers_max> heads;
  std::array<iovec, 2 * answers_max> parts;
  std::size_t count = 0;
  std::uint64_t bytes = 0;  // of payload
  sluice::lease memory;
};

// At most one flow at a time sends; it ends when there is nothing left to send.
void peer::flush() {
  if (sending_ || closing_ || (out_.empty() && wanted_.empty())) return;
  sending_ = true;
  home_.engine().spawn(send_all(shared_from_this()));
}

task<void> peer::send_all(std::shared_ptr<peer> self) {
  peer& p = *self;
  while (!p.closing_ && !(p.out_.empty() && p.wanted_.empty())) {
    result<void> done;
    if (!p.out_.empty()) {
      p.outgoing_.clear();
      std::swap(p.out_, p.outgoing_);
      const result<std::size_t> sent = co_await p.stream_.send(p.outgoing_, send_time);
      if (!sent) done = std::unexpected(sent.error());
    } else {
      done = co_await p.send_answers();
    }
    p.last_sent_ = clock::now();
    if (!done) p.close(sluice::describe(done.error()), false);
  }
  p.sending_ = false;
}

void peer::choose_answers(answer& of, std::size_t bytes_max) {
  while (!wanted_.empty() && of.count < answers_max) {
    const wanted& next = wanted_.front();
    if (of.bytes + next.bytes > bytes_max) return;
    of.heads[of.count] = write_piece_head(next.piece, next.begin, next.bytes);
    of.bytes += next.bytes;
    of.requests[of.count++] = next;
    wanted_.pop_front();
  }
}

// Requests mostly follow one another in the torrent: one read for as many as do.
task<result<void>> peer::read_answers(answer& of) {
  const layout& where = home_.where();
  std::span<std::byte> place = of.memory.bytes();
  std::size_t i = 0;
  while (i < of.count) {
    const std::uint64_t offset = where.piece_offset(of.requests[i].piece) + of.requests[i].begin;
    std::uint64_t bytes = 0;
    for (; i < of.count; ++i) {
      const wanted& next = of.requests[i];
      if (where.piece_offset(next.piece) + next.begin != offset + bytes) break;
      of.parts[2 * i] = {of.heads[i].data(), piece_head_bytes};
      of.parts[2 * i + 1] = {place.data() + bytes, next.bytes};
      bytes += next.bytes;
    }
    const result<void> read = co_await home_.files().read(place.first(bytes), offset);
    if (!read) co_return read;
    place = place.subspan(bytes);
  }
  co_return result<void>();
}

task<result<void>> peer::send_answers() {
  answer of;
  result<sluice::lease> memory = co_await home_.engine().acquire_block(send_time);
  if (!memory) co_return std::unexpected(memory.error());
  of.memory = *std::move(memory);
  choose_answers(of, of.memory.size());
  if (of.count == 0) co_return result<void>();  // all were taken back meanwhile
  const result<void> read = co_await read_answers(of);
  if (!read) co_return read;
  msghdr message{};
  message.msg_iov = of.parts.data();
  message.msg_iovlen = 2 * of.count;
  const result<std::size_t> sent = co_await stream_.send(message, send_time);
  if (!sent) co_return std::unexpected(sent.error());
  home_.counts().sent_bytes += of.bytes;
  co_return result<void>();
}

}  // namespace bt
