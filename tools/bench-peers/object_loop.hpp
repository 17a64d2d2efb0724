// The receiving side of the wire for programs that move the payload their own way: the head is
// read alone, so that the payload starts where the program wants it.
#pragma once

#include <cstdint>

#include "stored_object.hpp"

namespace peer {

// move(socket, file, bytes) brings the payload into the file; serves until the connection ends.
template <typename Move>
void serve_objects(const settings& options, int dir, int socket, std::uint64_t connection,
                   int flags, Move move) {
  unsigned char head[head_bytes];
  for (std::uint64_t number = 0; receive_exactly(socket, head, sizeof head); ++number) {
    stored_object object(options, dir, connection, number, flags);
    const bool stored = object && move(socket, object.fd(), decode_length(head)) && object.store();
    if (!answer(socket, stored ? 'k' : 'e') || !stored) return;
  }
}

}  // namespace peer
