// Received bytes that are not consumed yet: the rest of a head, the beginning of a body, the next
// pipelined request.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "sluice/lease.hpp"

namespace sluiced {

class window {
 public:
  [[nodiscard]] bool empty() const { return begin_ == end_; }
  [[nodiscard]] bool holds_block() const { return static_cast<bool>(block_); }
  [[nodiscard]] std::span<std::byte> unread() const {
    return block_ ? block_.bytes().subspan(begin_, end_ - begin_) : std::span<std::byte>();
  }
  // Whether what is unread would fit into a block of `bytes`, and lies in a larger one.
  [[nodiscard]] bool fits_smaller(std::size_t bytes) const {
    return block_ && block_.size() > bytes && end_ - begin_ <= bytes;
  }
  // Where the next receive may go, at most `limit` unread bytes in all.
  [[nodiscard]] std::span<std::byte> room(std::size_t limit) {
    if (begin_ > 0) move_to_front();
    const std::size_t usable = std::min<std::size_t>(block_.size(), limit);
    return end_ < usable ? block_.bytes().subspan(end_, usable - end_) : std::span<std::byte>();
  }
  void received(std::size_t bytes) { end_ += bytes; }
  void consume(std::size_t bytes) { begin_ += bytes; }

  // Goes on in this block, which is as large as what is unread or larger.
  void take(sluice::lease block) {
    const std::size_t left = end_ - begin_;
    if (left > 0) std::memcpy(block.data(), block_.data() + begin_, left);
    take(std::move(block), 0, left);
  }
  // Goes on with bytes [begin, end) of another block; gives the present one back.
  void take(sluice::lease block, std::size_t begin, std::size_t end) {
    block_ = std::move(block);
    begin_ = begin;
    end_ = end;
  }
  // Gives the block back once nothing is left in it.
  void release_if_empty() {
    if (empty()) release();
  }
  void release() {
    block_.reset();
    begin_ = end_ = 0;
  }

 private:
  void move_to_front() {
    std::memmove(block_.data(), block_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }

  sluice::lease block_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace sluiced
