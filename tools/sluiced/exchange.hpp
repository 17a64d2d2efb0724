// One request and its answer.
#pragma once

#include <cstdint>

#include "request.hpp"
#include "response.hpp"
#include "shard.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"
#include "target.hpp"
#include "window.hpp"

namespace sluiced {

// Where the request's body stands, which decides whether another request can follow.
enum class body_state : std::uint8_t {
  none,    // there is none, or all of it was taken
  unread,  // it begins at the front of the window
  broken,  // its end can no longer be found
};

enum class after : std::uint8_t {
  keep,    // the next request may follow
  close,   // nothing is left to say
  linger,  // the peer may still be sending: see linger()
};

struct exchange {
  shard& home;
  sluice::stream& peer;
  window& input;
  request asked;
  target where;
  body_state body = body_state::none;
};

// Sends the answer; head and body leave together. Says Connection: close when no request can
// follow.
[[nodiscard]] sluice::task<after> send_answer(exchange& x, answer& a);

// Takes what the peer is still sending, a bounded amount, so that it sees the answer before the
// connection ends and not a reset that throws the answer away (RFC 9112 section 9.6).
[[nodiscard]] sluice::task<void> linger(shard& home, sluice::stream& peer);

// The handlers: what to answer, the request's body taken as far as it is wanted.
[[nodiscard]] sluice::task<answer> answer_get(exchange& x);  // GET and HEAD
[[nodiscard]] sluice::task<answer> answer_put(exchange& x);
[[nodiscard]] sluice::task<answer> answer_delete(exchange& x);

// The answer to a precondition that stands in the way; `blocking` is not verdict::proceed.
[[nodiscard]] answer answer_of(verdict blocking, const validators* current);

}  // namespace sluiced
