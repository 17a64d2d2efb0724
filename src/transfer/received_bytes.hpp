// Received bytes that lie in pieces: the iovecs of a scatter receive, in the order of the stream,
// with a cursor. What a wrong prediction left in the wrong place is moved with it.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

namespace sluice {

// Never allocates once made. Owns no memory but the list.
class received_bytes {
 public:
  // The most pieces it ever holds.
  explicit received_bytes(std::size_t pieces_max);

  void clear();
  void add(std::byte* at, std::size_t bytes);
  void trim(std::size_t bytes);  // keeps the first `bytes`

  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] std::size_t pieces() const { return pieces_.size() - first_; }
  // Where the first byte lies; there must be one.
  [[nodiscard]] std::byte* front() const { return at(first_); }
  // Whether the first `bytes` lie in one piece.
  [[nodiscard]] bool together(std::size_t bytes) const;
  [[nodiscard]] bool any_within(std::span<const std::byte> memory) const;

  void drop(std::size_t bytes);
  // Whether move_front would overwrite no byte before it is read, of these or of those behind them.
  [[nodiscard]] bool can_move(const std::byte* target, std::size_t bytes) const;
  // Moves the first `bytes` to `target` and drops them; the number that were not there already.
  std::size_t move_front(std::byte* target, std::size_t bytes);
  // Moves the first `bytes` to `target`, where they are then the first piece.
  void gather(std::byte* target, std::size_t bytes);

 private:
  [[nodiscard]] std::byte* at(std::size_t piece) const {
    return static_cast<std::byte*>(pieces_[piece].iov_base);
  }
  std::vector<iovec> pieces_;  // none is empty; [first_, end) are not dropped yet
  std::size_t first_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace sluice
