// The one setter of an op's state, checked against the table of legal moves.
#pragma once

#include "sluice/op.hpp"

namespace sluice {

[[nodiscard]] bool is_legal_move(op_state from, op_state to);
void set_state(op& o, op_state next);  // asserts that the move is legal

}  // namespace sluice
