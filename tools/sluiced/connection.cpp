#include "connection.hpp"

#include <fmt/format.h>

#include <chrono>
#include <expected>
#include <optional>
#include <utility>

#include "exchange.hpp"
#include "head_scan.hpp"
#include "metrics.hpp"

namespace sluiced {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::string_view no_memory =
    "the server has no memory for another request now; try again later";
constexpr std::string_view too_many = "the server has too many connections; try again later";
constexpr std::string_view allowed_methods = "Allow: GET, HEAD, PUT, DELETE, OPTIONS\r\n";

// How the wait for a head ended when it did not end in a head.
struct no_head {
  std::optional<refusal> why;  // nothing: there is nobody to tell
};
using head_result = std::expected<std::size_t, no_head>;

std::unexpected<no_head> turn_away(int status, std::string text) {
  return std::unexpected(no_head{refusal{status, std::move(text)}});
}

std::unexpected<no_head> too_large(const head_scan& scan, std::uint64_t limit) {
  if (!scan.has_line())
    return turn_away(414, fmt::format("the request line is longer than {} bytes", limit));
  return turn_away(431, fmt::format("the request head is larger than {} bytes; send fewer or "
                                    "shorter fields",
                                    limit));
}

// Whether enough is here to decide; nothing: receive more.
std::optional<head_result> judge_head(window& input, head_scan& scan, std::uint64_t limit) {
  const std::span<std::byte> unread = input.unread();
  const std::span<std::byte> looked_at =
      unread.first(std::min<std::size_t>(unread.size(), static_cast<std::size_t>(limit)));
  switch (scan.look(looked_at)) {
    case head_state::complete: return head_result(scan.head_bytes());
    case head_state::malformed:
      return head_result(turn_away(400,
                                   "this is no HTTP/1.1 request head; speak plain HTTP/1.1 "
                                   "here, lines end in CR LF"));
    case head_state::incomplete: break;
  }
  if (looked_at.size() == limit) return head_result(too_large(scan, limit));
  return std::nullopt;
}

void skip_empty_lines(window& input) { input.consume(leading_empty_lines(input.unread())); }

// Receives once more, within the deadline. Nothing: there is more to look at.
sluice::task<std::optional<no_head>> receive_more(connection& self, window& input,
                                                  clock::time_point deadline) {
  shard& home = self.home();
  const auto left = deadline - clock::now();
  sluice::result<std::size_t> got = sluice::fail(ETIMEDOUT, "recv");
  if (left > clock::duration::zero()) {
    const std::span<std::byte> room = input.room(home.limits().head_bytes_max);
    got = co_await self.peer().recv(room, sluice::recv_mode::some, left);
  }
  if (!got && got.error().code == ETIMEDOUT) {
    tally::add(home.counts().timeouts);
    if (input.empty()) co_return no_head{};
    co_return no_head{refusal{408, "the request head did not arrive in time"}};
  }
  if (!got) co_return no_head{};
  if (*got == 0 && !input.empty())
    co_return no_head{refusal{400, "the connection ended inside the request head"}};
  if (*got == 0) co_return no_head{};
  input.received(*got);
  co_return std::nullopt;
}

// The length of the head at the front of the window.
sluice::task<head_result> read_head(connection& self, window& input) {
  const clock::time_point deadline = clock::now() + self.home().limits().head_timeout;
  head_scan scan;
  bool begun = false;
  for (;;) {
    if (!begun) skip_empty_lines(input);
    // A lone CR may be half of an empty line: the head begins with the first other byte.
    begun = begun || input.unread().size() > 1;
    if (begun) {
      const std::optional<head_result> judged =
          judge_head(input, scan, self.home().limits().head_bytes_max);
      if (judged) co_return *judged;
    }
    const std::optional<no_head> ended = co_await receive_more(self, input, deadline);
    if (ended) co_return std::unexpected(*ended);
  }
}

answer answer_other(const request& asked) {
  answer a = answer_of({405, fmt::format("{} is not done here; use GET, HEAD, PUT or DELETE",
                                         asked.method_name.substr(0, 32))});
  a.fields = allowed_methods;
  return a;
}

answer answer_options() {
  answer a;
  a.status = 204;
  a.fields = allowed_methods;
  return a;
}

answer answer_reserved(exchange& x) {
  const bool reads = x.asked.method == method::get || x.asked.method == method::head;
  const bool is_page = x.where.path == ".sluice/metrics" && !x.where.directory;
  if (!is_page && !reads) return answer_of({403, "names beneath /.sluice/ belong to the server"});
  if (!is_page) return answer_of({404, "the server has no such page; there is /.sluice/metrics"});
  answer a;
  if (!reads) {
    a = answer_of({405, "this page of the server can only be read"});
    a.fields = "Allow: GET, HEAD, OPTIONS\r\n";
    return a;
  }
  a.text = format_metrics(x.home.all());
  return a;
}

sluice::task<answer> carry_out(exchange& x) {
  if (x.asked.method == method::other) co_return answer_other(x.asked);
  if (x.asked.method == method::options) co_return answer_options();
  std::expected<target, refusal> where = parse_target(x.asked.target);
  if (!where) co_return answer_of(where.error());
  x.where = std::move(*where);
  if (x.where.reserved) co_return answer_reserved(x);
  switch (x.asked.method) {
    case method::put: co_return co_await answer_put(x);
    case method::remove: co_return co_await answer_delete(x);
    default: break;
  }
  co_return co_await answer_get(x);
}

// Says why no request was understood. What else the peer sends cannot be told apart any more.
sluice::task<after> answer_refusal(connection& self, window& input, const refusal& why) {
  exchange x{.home = self.home(),
             .peer = self.peer(),
             .input = input,
             .asked = {},
             .where = {},
             .body = body_state::broken};
  x.asked.keep_alive = false;
  answer a = answer_of(why);
  co_return co_await send_answer(x, a);
}

sluice::task<after> answer_request(connection& self, window& input, request& asked) {
  exchange x{.home = self.home(),
             .peer = self.peer(),
             .input = input,
             .asked = std::move(asked),
             .where = {},
             .body = body_state::none};
  if (x.asked.has_body()) x.body = body_state::unread;
  answer a = co_await carry_out(x);
  co_return co_await send_answer(x, a);
}

sluice::task<after> serve_request(connection& self, window& input) {
  const head_result head = co_await read_head(self, input);
  if (!head && !head.error().why) co_return after::close;
  if (!head) co_return co_await answer_refusal(self, input, *head.error().why);
  tally::add(self.home().counts().requests);
  std::expected<request, refusal> asked = parse_request(input.unread().first(*head));
  input.consume(*head);
  input.release_if_empty();
  if (!asked) co_return co_await answer_refusal(self, input, asked.error());
  co_return co_await answer_request(self, input, *asked);
}

// Turns the peer away before its request is read: said without any memory of the pool.
sluice::task<after> answer_busy(connection& self, std::string_view why) {
  window nothing;
  exchange x{.home = self.home(),
             .peer = self.peer(),
             .input = nothing,
             .asked = {},
             .where = {},
             .body = body_state::broken};
  answer a = answer_of({503, std::string(why)});
  co_return co_await send_answer(x, a);
}

// Gives the next head a small block. What follows a chunked body lies in a block of data at first:
// it must not stay there for as long as the peer takes to send the rest. False: close.
sluice::task<bool> find_head_block(shard& home, window& input) {
  if (input.holds_block() && !input.fits_smaller(home.limits().head_bytes_max)) co_return true;
  sluice::result<sluice::lease> block =
      co_await home.engine().acquire_head(home.limits().head_timeout);
  if (block)
    input.take(std::move(*block));
  else
    input.release();
  co_return block || block.error().code == ETIMEDOUT;
}

// One request and all that are pipelined behind it. Its frame, with everything a request needs,
// exists only for that time.
sluice::task<after> serve_requests(connection& self) {
  shard& home = self.home();
  window input;
  after next = after::keep;
  do {
    if (!co_await find_head_block(home, input)) co_return after::close;
    if (input.holds_block())
      next = co_await serve_request(self, input);
    else
      next = co_await answer_busy(self, no_memory);
    skip_empty_lines(input);
  } while (next == after::keep && !input.empty());

  input.release();
  if (next != after::linger) co_return next;
  co_await linger(home, self.peer());
  co_return after::close;
}

}  // namespace

sluice::task<void> serve_connection(shard& home, sluice::stream peer) {
  connection self(home, peer, purpose::serve);
  for (;;) {
    self.rest();
    const auto readable = co_await peer.wait_readable(home.limits().idle_timeout);
    self.wake();
    if (!readable) {
      if (readable.error().code == ETIMEDOUT) tally::add(home.counts().timeouts);
      break;
    }
    const after next = co_await serve_requests(self);
    if (next == after::close) break;
  }
}

sluice::task<void> refuse_connection(shard& home, sluice::stream peer) {
  connection self(home, peer, purpose::refuse);
  const after next = co_await answer_busy(self, too_many);
  if (next == after::linger) co_await linger(home, peer);
}

}  // namespace sluiced
