// What an error of the library means to the peer.
#pragma once

#include <cstdint>

#include "refusal.hpp"
#include "response.hpp"
#include "sluice/result.hpp"

namespace sluiced {

// What was being done when it failed: one error means other things in other steps.
enum class step : std::uint8_t {
  read,     // opening or reading a file for GET and HEAD
  place,    // finding where an upload goes, and giving it its name
  receive,  // taking its body
  remove,   // DELETE
};

// The wait for a block of the pool ran out: the server's lack of memory, and not the peer's
// silence.
[[nodiscard]] bool is_out_of_blocks(const sluice::error& problem);

// Every error maps to an answer; one that nobody foresaw to 500 with its name.
[[nodiscard]] refusal explain(const sluice::error& problem, step during);

// The same as an answer, to_nobody where the error says that the peer is gone or the server ends.
[[nodiscard]] answer failed(const sluice::error& problem, step during);

}  // namespace sluiced
