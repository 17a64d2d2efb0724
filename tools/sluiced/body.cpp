#include "body.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "chunk_decoder.hpp"
#include "pace.hpp"

namespace sluiced {

namespace {

using clock = pace::clock;

// Whether bytes that came with a head are copied out of the window before the rest of the body is
// waited for, so that the head's block serves other heads meanwhile. More than a head lies in a
// block of data: a heap of that size for every slow peer would escape the budget of the arena.
bool worth_copying(const exchange& x, std::size_t bytes) {
  return bytes <= x.home.limits().head_bytes_max;
}

// The chunked body while it is being received.
struct chunked_body {
  exchange& x;
  sluice::span_writer& writer;
  chunk_decoder decoder{};
  std::vector<iovec> places{};     // decoded and not handed to the writer yet
  std::vector<std::byte> early{};  // what came with the head: `places` may lie in it
  window last{};                   // what lies behind the body, when it did not end in x.input
  pace peer_pace{x.home.limits().receive_timeout, x.home.limits().rate_min_bytes};
};

sluice::result<void> check_decoder(const chunked_body& b) {
  if (b.decoder.malformed()) return sluice::fail(EBADMSG, "recv", "chunked coding");
  const std::uint64_t promised = b.decoder.body_bytes() + b.decoder.chunk_left();
  if (promised < b.decoder.body_bytes() || promised > b.x.home.limits().body_bytes_max)
    return sluice::fail(body_too_large, "recv", "chunked body over sluice.http.body_max_bytes");
  return {};
}

// Hands over what lies in memory that stays until the writer has finished. The end of the body is
// always found here.
sluice::task<sluice::result<void>> write_in_place(chunked_body& b) {
  const bool ended = b.decoder.ended();
  if (b.places.empty() && !ended) co_return sluice::result<void>{};
  const sluice::body_part part = ended ? sluice::body_part::last : sluice::body_part::inner;
  sluice::lease nothing;
  const auto written = co_await b.writer.write(std::move(nothing), b.places, part);
  b.places.clear();
  co_return written;
}

// What came with the head. What lies behind the body, and only that, stays in the window.
sluice::task<sluice::result<void>> take_window(chunked_body& b) {
  std::span<std::byte> unread = b.x.input.unread();
  const bool copied = worth_copying(b.x, unread.size());
  if (copied) {
    b.early.assign(unread.begin(), unread.end());
    unread = b.early;
  }
  b.x.input.consume(b.decoder.feed(unread, b.places));
  if (copied) b.x.input.release_if_empty();
  const sluice::result<void> sound = check_decoder(b);
  if (!sound) co_return sound;
  co_return co_await write_in_place(b);
}

// A block, and only once there is something to put into it: a peer that pauses holds none.
sluice::task<sluice::result<sluice::lease>> block_for_more(chunked_body& b) {
  const auto readable = co_await b.x.peer.wait_readable(b.peer_pace.interval());
  if (!readable) co_return std::unexpected(readable.error());
  sluice::result<sluice::lease> block =
      co_await b.x.home.engine().acquire_block(b.x.home.limits().head_timeout);
  co_return block;
}

// What the peer sends next, within its interval.
sluice::task<sluice::result<std::size_t>> receive_some(chunked_body& b, std::span<std::byte> room) {
  for (;;) {
    const clock::time_point now = clock::now();
    const int verdict = b.peer_pace.judge(now);
    if (verdict != 0) co_return sluice::fail(verdict, "recv", "chunked body");
    const auto got = co_await b.x.peer.recv(room, sluice::recv_mode::some, b.peer_pace.left(now));
    if (!got && got.error().code == ETIMEDOUT) continue;
    if (!got) co_return std::unexpected(got.error());
    if (*got == 0) co_return sluice::fail(sluice::code::end_of_stream, "recv", "chunked body");
    co_return *got;
  }
}

// Receives into the block behind `filled` and decodes it; the new end.
sluice::task<sluice::result<std::size_t>> fill_more(chunked_body& b, std::span<std::byte> block,
                                                    std::size_t filled, std::size_t& decoded) {
  const auto got = co_await receive_some(b, block.subspan(filled));
  if (!got) co_return std::unexpected(got.error());
  filled += *got;
  const std::uint64_t body_before = b.decoder.body_bytes();
  decoded += b.decoder.feed(block.subspan(decoded, filled - decoded), b.places);
  b.peer_pace.add(*got, b.decoder.body_bytes() - body_before);
  const sluice::result<void> sound = check_decoder(b);
  if (!sound) co_return std::unexpected(sound.error());
  co_return filled;
}

// Fills one block with what comes, decodes it in place and hands it to the writer. The block with
// the end of the body stays here: the next request may lie behind it.
sluice::task<sluice::result<void>> take_block(chunked_body& b) {
  sluice::result<sluice::lease> leased = co_await block_for_more(b);
  if (!leased) co_return std::unexpected(leased.error());
  sluice::lease block = std::move(*leased);
  b.peer_pace.begin(clock::now());
  std::size_t filled = 0;
  std::size_t decoded = 0;
  while (filled < block.size() && !b.decoder.ended()) {
    const auto more = co_await fill_more(b, block.bytes(), filled, decoded);
    if (!more) co_return std::unexpected(more.error());
    filled = *more;
  }
  if (b.decoder.ended()) {
    b.last.take(std::move(block), decoded, filled);
    co_return co_await write_in_place(b);
  }
  const auto written = co_await b.writer.write(std::move(block), b.places);
  b.places.clear();
  co_return written;
}

sluice::task<sluice::result<void>> take_chunks(chunked_body& b) {
  sluice::result<void> taken = co_await take_window(b);
  while (taken && !b.decoder.ended()) taken = co_await take_block(b);
  co_return taken;
}

bool is_refusal(const sluice::result<void>& received) {
  return !received && received.error().code == sluice::code::refused_by_check;
}

}  // namespace

sluice::task<sluice::result<void>> receive_sized(exchange& x, sluice::file& into,
                                                 sluice::body_check* check,
                                                 sluice::receipt& progress) {
  const std::uint64_t length = x.asked.content_length.value_or(0);
  const std::size_t here =
      static_cast<std::size_t>(std::min<std::uint64_t>(length, x.input.unread().size()));
  std::span<const std::byte> prefix = x.input.unread().first(here);
  std::vector<std::byte> early;
  // A body that is here already waits for the disk only, where it lies.
  const bool copied = here < length && worth_copying(x, here);
  if (copied) {
    early.assign(prefix.begin(), prefix.end());
    prefix = early;
    x.input.release();
  }
  const sluice::receive_options options{
      .length = length, .offset = 0, .prefix = prefix, .check = check};
  const auto received = co_await sluice::receive_to_file(x.peer, into, options, &progress);
  if (!copied) x.input.consume(here);
  x.input.release_if_empty();
  if (!received) {
    const sluice::result<void> failure = std::unexpected(received.error());
    const bool taken = is_refusal(failure) && progress.bytes == length;
    x.body = taken ? body_state::none : body_state::broken;
    co_return failure;
  }
  progress = *received;
  x.body = body_state::none;
  co_return sluice::result<void>{};
}

sluice::task<sluice::result<void>> receive_chunked(exchange& x, sluice::file& into,
                                                   sluice::body_check* check,
                                                   sluice::receipt& progress) {
  sluice::span_writer writer(x.home.engine(), into, check);
  chunked_body body{.x = x, .writer = writer};
  sluice::result<void> taken = co_await take_chunks(body);
  const auto finished = co_await writer.finish(&progress);
  if (taken && !finished) taken = std::unexpected(finished.error());
  // A body that was refused had an end all the same, and what lies behind it is the next request.
  const bool in_step = body.decoder.ended() && (taken || is_refusal(taken));
  x.body = in_step ? body_state::none : body_state::broken;
  // Only now are the writes done that may read from the window's block.
  if (in_step && !body.last.empty()) x.input = std::move(body.last);
  x.input.release_if_empty();
  co_return taken;
}

}  // namespace sluiced
