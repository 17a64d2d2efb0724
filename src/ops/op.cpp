#include "sluice/op.hpp"

#include <array>
#include <cassert>

#include "base/assert.hpp"
#include "ops/state.hpp"

namespace sluice {
namespace {

constexpr unsigned bit(op_state s) { return 1U << static_cast<unsigned>(s); }

// Index: the present state; value: where it may go. The reasons are at the enum in sluice/op.hpp.
constexpr std::array<unsigned, 5> legal_moves{
    bit(op_state::staged) |
        bit(op_state::harvested),  // idle: begun, or refused in a cancelled scope
    bit(op_state::in_flight) | bit(op_state::harvested),                           // staged
    bit(op_state::cancelling) | bit(op_state::staged) | bit(op_state::harvested),  // in_flight
    bit(op_state::harvested),                                                      // cancelling
    bit(op_state::idle),                                                           // harvested
};

}  // namespace

bool is_legal_move(op_state from, op_state to) {
  return (legal_moves[static_cast<std::size_t>(from)] & bit(to)) != 0;
}

void set_state(op& o, op_state next) {
  assert(is_legal_move(o.state_, next));
  o.state_ = next;
}

op::~op() { base::require(state_ == op_state::idle, "an operation's memory ended before it"); }

}  // namespace sluice
