// Stream to stream: two connections joined, bytes flowing both ways until both have ended.
#pragma once

#include <cstddef>
#include <span>

#include "sluice/api.hpp"
#include "sluice/result.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"
#include "sluice/transfer.hpp"

namespace sluice {

struct relay_options {
  // Bytes received before the relay began, with a request's head for instance: sent on before
  // anything else. They must live until the relay has ended; receipts count them.
  std::span<const std::byte> from_first{};   // goes to the second stream
  std::span<const std::byte> from_second{};  // goes to the first
  // Bytes per second that both directions together must move, looked at every
  // sluice.relay.timeout_ms, or every 30 s where that is 0; 0: silence is the only limit.
  std::uint64_t rate_min_bytes = 0;
  std::chrono::nanoseconds deadline{};  // for the whole, as that of every transfer: transfer.hpp
};

// One receipt for each direction: `bytes` are what the other side's socket has taken, `last_byte`
// is when the direction ended. What was received and not sent on when a relay fails is in neither.
struct relay_receipts {
  receipt to_second;
  receipt to_first;
};

// Relays both ways at once, each direction with its own pipe or block while it has something to
// move, and with none while it is idle. The end of one stream is passed on (shutdown(2) for
// writing), and the other direction goes on until it ends too; that is success. Whatever else
// happens ends both directions, once a direction that is not yet over meets it: ECONNRESET, EPIPE,
// ETIMEDOUT (not a byte moved either way for sluice.relay.timeout_ms, or the deadline has passed),
// code::too_slow (while others waited for the pipe or block that held its bytes, a peer took next
// to nothing for the shortest of sluice.relay.timeout_ms, sluice.receive.timeout_ms and
// sluice.send.timeout_ms, zeroes apart; or both directions together were below rate_min_bytes),
// ENOBUFS (no block, or for sluice.relay.path=splice no pipe, became free in twice
// sluice.relay.timeout_ms), EMFILE and ENFILE (the same, and for want of a descriptor no further
// pipe could be made), ECANCELED, code::path_unavailable (sluice.relay.path=splice, and these
// sockets or this system cannot, or a peer sends urgent data), EINVAL (one stream twice, or two
// engines), EBADF (a stream that is closed). After an error bytes may be lost, so both streams
// should be closed. Urgent data (MSG_OOB) is not passed on; by path auto what follows it is copied
// (kernel-notes/splice_stops_at_urgent_data.md).
//
// Without a rate silence is the only limit: a relay has no length, so a slow one and one with
// little to say look the same, and how slow is too slow depends on what is spoken, which a relay
// does not look at.
//
// Loop thread. The streams stay the caller's and must live until the end; nobody else may receive
// or send meanwhile, and both are non-blocking from their first splice on. `progress`, when given,
// has the receipts so far, also after a failure.
[[nodiscard]] SLUICE_API task<result<relay_receipts>> relay(stream& first, stream& second,
                                                            relay_options options = {},
                                                            relay_receipts* progress = nullptr);

}  // namespace sluice
