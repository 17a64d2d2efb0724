// What a peer sends: messages, and answers to requests, many of them in one call.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "peer.hpp"
#include "session.hpp"

namespace bt {

using sluice::result;
using sluice::task;

namespace {
constexpr std::size_t answers_max = 64;
constexpr std::uint32_t page_bytes = 4096;

// What the peer has not yet taken: of the message, and of what the kernel keeps for it. A full
// socket takes no more before a third of that has gone.
std::uint64_t untaken_bytes(const msghdr& message, int fd) {
  int queued = 0;
  if (ioctl(fd, SIOCOUTQ, &queued) != 0) queued = 0;
  auto bytes = static_cast<std::uint64_t>(queued);
  for (const iovec& part : std::span(message.msg_iov, message.msg_iovlen)) bytes += part.iov_len;
  return bytes;
}

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

std::chrono::seconds peer::send_time() const { return 2 * home_.answer_time(); }

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
      iovec whole{p.outgoing_.data(), p.outgoing_.size()};
      msghdr message{};
      message.msg_iov = &whole;
      message.msg_iovlen = 1;
      done = co_await p.send_patiently(message);
    } else {
      done = co_await p.send_answers();
    }
    p.last_sent_ = clock::now();
    if (!done) p.close(sluice::describe(done.error()), false);
  }
  p.sending_ = false;
}

// As long as it takes, to one who takes anything within each send_time().
task<result<void>> peer::send_patiently(msghdr& message) {
  for (std::uint64_t untaken = untaken_bytes(message, stream_.fd());;) {
    const result<std::size_t> sent = co_await stream_.send(message, send_time());
    if (sent) co_return result<void>();
    const std::uint64_t before = std::exchange(untaken, untaken_bytes(message, stream_.fd()));
    if (sent.error().code != ETIMEDOUT || untaken >= before)
      co_return std::unexpected(sent.error());
  }
}

// As many as the block has room for: each that does not follow the one before it is a read of its
// own, which may need room to spare.
void peer::choose_answers(answer& of) {
  const std::uint64_t spare = home_.files().spare_bytes();
  std::uint64_t room = of.memory.size();
  std::uint64_t end = 0;  // of the last one, in the torrent
  while (!wanted_.empty() && of.count < answers_max) {
    const wanted& next = wanted_.front();
    const std::uint64_t offset = home_.where().piece_offset(next.piece) + next.begin;
    const bool follows = of.count > 0 && offset == end;
    const std::uint64_t needed = next.bytes + (follows ? 0 : spare);
    if (needed > room && of.count > 0) return;
    room -= std::min(needed, room);
    end = offset + next.bytes;
    of.heads[of.count] = write_piece_head(next.piece, next.begin, next.bytes);
    of.bytes += next.bytes;
    of.requests[of.count++] = next;
    wanted_.pop_front();
  }
}

// Requests mostly follow one another in the torrent: one read for as many as do.
task<result<void>> peer::read_answers(answer& of) {
  const layout& where = home_.where();
  store& files = home_.files();
  std::uint32_t begin = 0;  // of what is free in the block
  for (std::size_t i = 0; i < of.count;) {
    const std::size_t first = i;
    const std::uint64_t offset = where.piece_offset(of.requests[i].piece) + of.requests[i].begin;
    std::uint64_t bytes = 0;
    for (; i < of.count; ++i) {
      const wanted& next = of.requests[i];
      if (where.piece_offset(next.piece) + next.begin != offset + bytes) break;
      bytes += next.bytes;
    }
    const sluice::lease place = of.memory.part(begin, of.memory.size() - begin);
    const store::found_bytes read = co_await files.read_block(place, offset, bytes);
    if (!read) {
      co_await name_unreadable(of, first, i, read.error());
      co_return std::unexpected(read.error());
    }
    std::byte* at = read->data();
    for (std::size_t j = first; j < i; ++j) {
      of.parts[2 * j] = {of.heads[j].data(), piece_head_bytes};
      of.parts[2 * j + 1] = {at, of.requests[j].bytes};
      at += of.requests[j].bytes;
    }
    begin = static_cast<std::uint32_t>(at - of.memory.data());
    if (files.spare_bytes() > 0) begin = (begin + page_bytes - 1) / page_bytes * page_bytes;
  }
  co_return result<void>();
}

// A read for several requests has failed: the pieces may be several, so each is read by itself.
task<void> peer::name_unreadable(const answer& of, std::size_t first, std::size_t past,
                                 sluice::error why) {
  std::uint32_t piece = of.requests[first].piece;
  for (std::size_t i = first; i < past; ++i) {
    const wanted& one = of.requests[i];
    const std::uint64_t offset = home_.where().piece_offset(one.piece) + one.begin;
    const store::found_bytes read = co_await home_.files().read_block(of.memory, offset, one.bytes);
    if (read) continue;
    piece = one.piece;
    why = read.error();
    break;
  }
  home_.unreadable(piece, why);
}

task<result<void>> peer::send_answers() {
  answer of;
  result<sluice::lease> memory = co_await home_.engine().acquire_block(send_time());
  if (!memory) co_return std::unexpected(memory.error());
  of.memory = *std::move(memory);
  choose_answers(of);
  if (of.count == 0) co_return result<void>();  // all were taken back meanwhile
  const result<void> read = co_await read_answers(of);
  if (!read) co_return read;
  msghdr message{};
  message.msg_iov = of.parts.data();
  message.msg_iovlen = 2 * of.count;
  const result<void> sent = co_await send_patiently(message);
  if (!sent) co_return sent;
  home_.counts().sent_bytes += of.bytes;
  co_return result<void>();
}

}  // namespace bt
