// What an operation of a transfer adds to its receipt.
#pragma once

#include "sluice/op.hpp"
#include "sluice/transfer.hpp"

namespace sluice {

inline void count_op(receipt& in, const op& ended) {
  in.ops += ended.rounds;
  in.short_ops += ended.short_rounds;
}

}  // namespace sluice
