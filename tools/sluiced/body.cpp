#include "body.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "chunk_decoder.hpp"

namespace sluiced {

namespace {

using clock = std::chrono::steady_clock;

// The rate of a body is judged from here on: before, a pause of the network decides.
constexpr std::chrono::seconds rate_grace{5};

// The chunked body while it is being received.
struct chunked_body {
  exchange& x;
  sluice::span_writer& writer;
  chunk_decoder decoder;
  std::vector<iovec> places;  // decoded and not handed to the writer yet
  window last;                // what lies behind the body, when it did not end in x.input
  clock::time_point began = clock::now();
};

sluice::result<void> check_decoder(const chunked_body& b) {
  if (b.decoder.malformed()) return sluice::fail(EBADMSG, "recv", "chunked coding");
  const std::uint64_t promised = b.decoder.body_bytes() + b.decoder.chunk_left();
  if (promised < b.decoder.body_bytes() || promised > b.x.home.limits().body_bytes_max)
    return sluice::fail(EFBIG, "recv", "chunked body over sluice.http.body_max_bytes");
  return {};
}

sluice::result<void> check_rate(const chunked_body& b) {
  const std::uint64_t rate_min = b.x.home.limits().rate_min_bytes;
  const auto elapsed = std::chrono::duration<double>(clock::now() - b.began);
  if (rate_min == 0 || elapsed < rate_grace) return {};
  if (static_cast<double>(b.decoder.body_bytes()) >=
      static_cast<double>(rate_min) * elapsed.count())
    return {};
  return sluice::fail(sluice::code::too_slow, "recv", "chunked body");
}

// Hands over what lies in memory that stays until the writer has finished.
sluice::task<sluice::result<void>> write_in_place(chunked_body& b) {
  if (b.places.empty()) co_return sluice::result<void>{};
  sluice::lease nothing;
  const auto written = co_await b.writer.write(std::move(nothing), b.places);
  b.places.clear();
  co_return written;
}

// The body bytes that came with the head. Their block stays in the window.
sluice::task<sluice::result<void>> take_window(chunked_body& b) {
  const std::size_t read = b.decoder.feed(b.x.input.unread(), b.places);
  b.x.input.consume(read);
  const sluice::result<void> sound = check_decoder(b);
  if (!sound) co_return sound;
  co_return co_await write_in_place(b);
}

// A block, and only once there is something to put into it: a peer that pauses holds none.
sluice::task<sluice::result<sluice::lease>> block_for_more(chunked_body& b) {
  const auto timeout = b.x.home.limits().receive_timeout;
  const auto readable = co_await b.x.peer.wait_readable(timeout);
  if (!readable) co_return std::unexpected(readable.error());
  sluice::result<sluice::lease> block = co_await b.x.home.engine().acquire_block(timeout);
  co_return block;
}

// Receives into the block behind `filled` and decodes it; the new end.
sluice::task<sluice::result<std::size_t>> fill_more(chunked_body& b, std::span<std::byte> block,
                                                    std::size_t filled, std::size_t& decoded) {
  const auto got = co_await b.x.peer.recv(block.subspan(filled), sluice::recv_mode::some,
                                          b.x.home.limits().receive_timeout);
  if (!got) co_return std::unexpected(got.error());
  if (*got == 0) co_return sluice::fail(sluice::code::end_of_stream, "recv", "chunked body");
  filled += *got;
  decoded += b.decoder.feed(block.subspan(decoded, filled - decoded), b.places);
  for (const auto check : {check_decoder, check_rate}) {
    const sluice::result<void> passed = check(b);
    if (!passed) co_return std::unexpected(passed.error());
  }
  co_return filled;
}

// Fills one block with what comes, decodes it in place and hands it to the writer. The block with
// the end of the body stays here: the next request may lie behind it.
sluice::task<sluice::result<void>> take_block(chunked_body& b) {
  sluice::result<sluice::lease> leased = co_await block_for_more(b);
  if (!leased) co_return std::unexpected(leased.error());
  sluice::lease block = std::move(*leased);
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

}  // namespace

sluice::task<sluice::result<void>> receive_sized(exchange& x, sluice::file& into,
                                                 sluice::receipt& progress) {
  const std::uint64_t length = x.asked.content_length.value_or(0);
  const std::size_t here =
      static_cast<std::size_t>(std::min<std::uint64_t>(length, x.input.unread().size()));
  const sluice::receive_options options{
      .length = length, .offset = 0, .prefix = x.input.unread().first(here)};
  const auto received = co_await sluice::receive_to_file(x.peer, into, options, &progress);
  x.input.consume(here);
  x.input.release_if_empty();
  if (!received) {
    x.body = body_state::broken;
    co_return std::unexpected(received.error());
  }
  progress = *received;
  x.body = body_state::none;
  co_return sluice::result<void>{};
}

sluice::task<sluice::result<void>> receive_chunked(exchange& x, sluice::file& into,
                                                   sluice::receipt& progress) {
  sluice::span_writer writer(x.home.engine(), into);
  chunked_body body{.x = x, .writer = writer, .decoder = {}, .places = {}, .last = {}};
  sluice::result<void> taken = co_await take_chunks(body);
  const auto finished = co_await writer.finish();
  if (finished) progress = *finished;
  if (taken && !finished) taken = std::unexpected(finished.error());
  x.body = taken ? body_state::none : body_state::broken;
  // Only now are the writes done that read from the window's block.
  if (taken && !body.last.empty()) x.input = std::move(body.last);
  x.input.release_if_empty();
  co_return taken;
}

}  // namespace sluiced
