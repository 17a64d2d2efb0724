#include "exchange.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>

#include "failure.hpp"

namespace sluiced {

namespace {

using clock = std::chrono::steady_clock;

// As much as a peer may have under way when it is told to stop, and as long as it may take to hear
// it.
constexpr std::size_t linger_bytes_max = std::size_t{64} << 20;
constexpr std::chrono::seconds linger_time_max{5};
constexpr std::chrono::seconds linger_silence_max{1};

// A small body that is here already is skipped rather than paid for with the connection.
void settle_body(exchange& x) {
  if (x.body != body_state::unread || x.asked.chunked) return;
  const std::uint64_t length = x.asked.content_length.value_or(0);
  if (length > x.input.unread().size()) return;
  x.input.consume(static_cast<std::size_t>(length));
  x.body = body_state::none;
}

connection_field field_of(const exchange& x, bool persists) {
  if (!persists) return connection_field::close;
  // HTTP/1.0 closes unless both sides say otherwise.
  return x.asked.http_1_1 ? connection_field::none : connection_field::keep_alive;
}

sluice::task<sluice::result<void>> send_text(exchange& x, std::span<const std::byte> bytes) {
  const auto sent = co_await x.peer.send(bytes, x.home.limits().idle_timeout);
  if (!sent) co_return std::unexpected(sent.error());
  co_return sluice::result<void>{};
}

// The peer's doing, or the end of the server: there is nobody to tell, or nothing to tell him. A
// disk that is somewhere else may say the same (a soft mount of NFS: ETIMEDOUT).
bool is_of_peer(const sluice::error& problem) {
  if (problem.code == ETIMEDOUT && std::string_view(problem.op) == "read") return false;
  switch (problem.code) {
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT:
    case sluice::code::too_slow:
    case ECANCELED: return true;
    default: return false;
  }
}

// How a file was sent. `begun`: the peer has of the head, or has gone, so that nothing else can be
// said any more.
struct payload_sent {
  sluice::result<void> done;
  bool begun = true;
};

sluice::task<payload_sent> send_payload(exchange& x, answer& a, const std::string& head) {
  // A PUT replaces a file as a whole, so that what is open here stays as it is. Where another
  // program writes to it, nothing but what its entity tag was made of is sent whole.
  const sluice::send_options options{.length = a.length,
                                     .offset = a.offset,
                                     .head = std::as_bytes(std::span(head)),
                                     .content = sluice::file_content::unchanging,
                                     .as_seen = a.seen};
  sluice::receipt progress;
  const auto sent = co_await sluice::send_from_file(x.peer, *a.payload, options, &progress);
  payload_sent p;
  if (sent && a.has_trailers) {
    // As the payload was, by a peer who may be as slow: a head with no payload behind it.
    const std::string end = end_of_payload(*sent);
    const sluice::send_options rest{.head = std::as_bytes(std::span(end))};
    const auto told = co_await sluice::send_from_file(x.peer, *a.payload, rest);
    if (!told) p.done = std::unexpected(told.error());
  }
  if (sent) co_return p;
  p.done = std::unexpected(sent.error());
  p.begun = progress.first_byte.count() > 0 || is_of_peer(sent.error());
  co_return p;
}

// What is wrong with the machine the peer can do nothing about; whoever runs the server is told.
void report_answer(exchange& x, const answer& a) {
  if (a.status != 500 && a.status != 507) return;
  x.home.complaints().say(a.cause, fmt::format("{} /{} answered {}: {}", x.asked.method_name,
                                               x.where.path, a.status, a.cause));
}

// A file that cannot be read to its end, after its head was sent, can only be told by a reset.
void report_broken_answer(exchange& x, const sluice::error& problem) {
  if (is_of_peer(problem)) return;
  const std::string cause = sluice::describe(problem);
  x.home.complaints().say(
      cause, fmt::format("{} /{} was cut off: {}", x.asked.method_name, x.where.path, cause));
}

}  // namespace

sluice::task<after> send_answer(exchange& x, answer& a) {
  if (a.to_nobody) co_return after::close;
  settle_body(x);
  x.input.release_if_empty();
  const bool persists = x.body == body_state::none && x.asked.keep_alive && !x.home.stopping();
  const bool has_payload = a.payload && a.length > 0 && x.asked.method != method::head;
  a.has_trailers = has_payload && x.asked.takes_trailers;
  std::string head = format_head(a, field_of(x, persists), ::time(nullptr));
  if (!has_payload && x.asked.method != method::head) head.append(a.text);

  x.home.counts().answered(a.status);
  report_answer(x, a);
  sluice::result<void> sent;
  if (has_payload) {
    const payload_sent payload = co_await send_payload(x, a, head);
    if (!payload.begun) {
      x.home.counts().not_answered(a.status);
      answer instead = failed(payload.done.error(), step::read);
      co_return co_await send_answer(x, instead);
    }
    sent = payload.done;
  } else {
    sent = co_await send_text(x, std::as_bytes(std::span(head)));
  }
  if (!sent) report_broken_answer(x, sent.error());
  if (!sent) co_return after::close;
  // The peer may have sent more meanwhile, a pipelined request: closing on that would be a reset,
  // which throws away what is left of this answer.
  co_return persists ? after::keep : after::linger;
}

sluice::task<void> linger(shard& home, sluice::stream& peer) {
  if (!peer.shutdown(SHUT_WR)) co_return;
  const clock::time_point end = clock::now() + linger_time_max;
  std::size_t bytes = 0;
  while (bytes < linger_bytes_max && clock::now() < end) {
    const auto got = co_await peer.recv(home.sink(), sluice::recv_mode::some, linger_silence_max);
    if (!got || *got == 0) co_return;
    bytes += *got;
  }
}

answer answer_of(verdict blocking, const validators* current) {
  if (blocking == verdict::malformed)
    return answer_of({400,
                      "If-Match or If-None-Match is no list of entity tags; an entity tag has "
                      "quotes around it"});
  if (blocking == verdict::failed)
    return answer_of({412, current != nullptr
                               ? "the file is not what the condition of the request asks for; get "
                                 "its present ETag and decide again"
                               : "there is no such file, but the request asks for one"});
  answer unchanged;
  unchanged.status = 304;
  return unchanged;
}

}  // namespace sluiced
