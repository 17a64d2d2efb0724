#include "transfer/received_bytes.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace sluice {
namespace {

bool overlap(const std::byte* a, std::size_t a_bytes, const std::byte* b, std::size_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

// One more than asked for: gather may split the first piece.
received_bytes::received_bytes(std::size_t pieces_max) { pieces_.reserve(pieces_max + 1); }

void received_bytes::clear() {
  pieces_.clear();
  first_ = 0;
  bytes_ = 0;
}

void received_bytes::add(std::byte* at, std::size_t bytes) {
  if (bytes == 0) return;
  assert(pieces_.size() < pieces_.capacity());
  pieces_.push_back({at, bytes});
  bytes_ += bytes;
}

void received_bytes::trim(std::size_t bytes) {
  assert(bytes <= bytes_);
  while (bytes_ > bytes) {
    iovec& last = pieces_.back();
    const std::size_t cut = std::min(last.iov_len, bytes_ - bytes);
    last.iov_len -= cut;
    bytes_ -= cut;
    if (last.iov_len == 0) pieces_.pop_back();
  }
}

bool received_bytes::together(std::size_t bytes) const {
  return bytes == 0 || (first_ < pieces_.size() && pieces_[first_].iov_len >= bytes);
}

bool received_bytes::any_within(std::span<const std::byte> memory) const {
  for (std::size_t i = first_; i < pieces_.size(); ++i) {
    if (overlap(at(i), pieces_[i].iov_len, memory.data(), memory.size())) return true;
  }
  return false;
}

void received_bytes::drop(std::size_t bytes) {
  assert(bytes <= bytes_);
  bytes_ -= bytes;
  while (bytes > 0) {
    iovec& piece = pieces_[first_];
    const std::size_t cut = std::min(piece.iov_len, bytes);
    piece.iov_base = at(first_) + cut;
    piece.iov_len -= cut;
    bytes -= cut;
    if (piece.iov_len == 0) ++first_;
  }
  if (bytes_ == 0) clear();
}

// Worked example: a message of 9 bytes came where {head of 13, slot of 16384} x 2 were predicted,
// then a frame of that shape. Its payload lies 9 bytes into slot 0, its last 9 bytes in head 1, and
// its place is the start of slot 0. Chunk 0 moves down within slot 0, chunk 1 from head 1 to the
// end of slot 0: neither touches a byte that is still to be read. Moving it to slot 1 would: what
// lies there comes later in the stream.
bool received_bytes::can_move(const std::byte* target, std::size_t bytes) const {
  for (std::size_t i = first_; bytes > 0; ++i) {
    assert(i < pieces_.size());
    const std::size_t chunk = std::min(pieces_[i].iov_len, bytes);
    if (overlap(target, chunk, at(i) + chunk, pieces_[i].iov_len - chunk)) return false;
    for (std::size_t later = i + 1; later < pieces_.size(); ++later) {
      if (overlap(target, chunk, at(later), pieces_[later].iov_len)) return false;
    }
    target += chunk;
    bytes -= chunk;
  }
  return true;
}

std::size_t received_bytes::move_front(std::byte* target, std::size_t bytes) {
  std::size_t moved = 0;
  while (bytes > 0) {
    const std::size_t chunk = std::min(pieces_[first_].iov_len, bytes);
    if (front() != target) {
      std::memmove(target, front(), chunk);
      moved += chunk;
    }
    drop(chunk);
    target += chunk;
    bytes -= chunk;
  }
  return moved;
}

void received_bytes::gather(std::byte* target, std::size_t bytes) {
  assert(bytes > 0 && bytes <= bytes_);
  const std::size_t all = bytes_;
  move_front(target, bytes);
  if (bytes == all) {
    add(target, bytes);
    return;
  }
  // A slot of the list is free in front: the first piece was used up, or else made shorter.
  if (first_ == 0) {
    pieces_.insert(pieces_.begin(), iovec{target, bytes});
  } else {
    pieces_[--first_] = {target, bytes};
  }
  bytes_ += bytes;
}

}  // namespace sluice
