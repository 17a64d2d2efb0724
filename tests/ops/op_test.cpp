#include "sluice/op.hpp"

#include <doctest/doctest.h>

#include <array>

#include "ops/state.hpp"
#include "support/dies.hpp"

namespace {

using namespace sluice;
using enum op_state;

constexpr std::array states{idle, staged, in_flight, cancelling, harvested};

struct move {
  op_state from;
  op_state to;
};

// Every legal move with the event that makes it; whatever is not here is illegal.
constexpr std::array legal{
    move{idle, staged},           // begun
    move{idle, harvested},        // begun in a cancelled scope
    move{staged, in_flight},      // the backend took it
    move{staged, harvested},      // cancelled before the backend saw it
    move{in_flight, cancelling},  // asked to end
    move{in_flight, staged},      // EINTR, EAGAIN or a short count: another round
    move{in_flight, harvested},   // answered
    move{cancelling, harvested},  // answered, one way or the other
    move{harvested, idle},        // told
};

bool is_listed(op_state from, op_state to) {
  for (const move& m : legal) {
    if (m.from == from && m.to == to) return true;
  }
  return false;
}

// Brings a new op into `wanted` by legal moves.
void bring(op& o, op_state wanted) {
  if (wanted == idle) return;
  set_state(o, staged);
  if (wanted == staged) return;
  set_state(o, in_flight);
  if (wanted == in_flight) return;
  set_state(o, wanted);
}

// Back to idle, so that the op may be destroyed.
void bring_home(op& o) {
  if (o.state() == idle) return;
  if (o.state() != harvested) set_state(o, harvested);
  set_state(o, idle);
}

TEST_CASE("a state moves where the table says and nowhere else") {
  for (const op_state from : states) {
    for (const op_state to : states) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      CHECK(is_legal_move(from, to) == is_listed(from, to));
    }
  }
}

TEST_CASE("every legal move can be made") {
  for (const move& m : legal) {
    op o;
    bring(o, m.from);
    set_state(o, m.to);
    CHECK(o.state() == m.to);
    bring_home(o);
  }
}

TEST_CASE("an illegal move breaks an assertion") {
  CHECK(support::dies([] {
    op o;
    set_state(o, in_flight);
  }));
  CHECK(support::dies([] {
    op o;
    bring(o, cancelling);
    set_state(o, staged);
  }));
}

TEST_CASE("an op may be destroyed only when it is idle") {
  for (const op_state s : states) {
    CAPTURE(static_cast<int>(s));
    const bool died = support::aborts([s] {
      op o;
      bring(o, s);
    });
    CHECK(died == (s != idle));
  }
}

}  // namespace
