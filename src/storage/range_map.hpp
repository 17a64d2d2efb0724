// Which memory holds the bytes of a file that are not yet in it: pieces of leased blocks by their
// offset. No two overlap: what is put later cuts what was there.
//
//   before   [aaaaaaaaaaaaaaaa)  [bbbbbb)       three pieces, the last of which is
//   put           [cccc)     [dddddddd)         untouched: a is split by c, and
//   after    [aaaa)[cccc)[aa)[dddddddd)[..      b loses its head to d
#pragma once

#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "sluice/lease.hpp"
#include "storage/node_pool.hpp"

namespace sluice {

// Contiguous bytes of the file in contiguous memory.
struct write_piece {
  boost::intrusive::set_member_hook<> by_offset;  // of its map
  lease block;                                    // holds `data`
  const std::byte* data = nullptr;
  std::uint64_t offset = 0;
  std::uint32_t bytes = 0;

  [[nodiscard]] std::uint64_t end() const { return offset + bytes; }
};

using piece_pool = node_pool<write_piece>;

// Loop thread only. Must be empty when it is destroyed. Every function that takes a pool must be
// given the one its pieces came from.
class range_map {
  struct by_offset {
    bool operator()(const write_piece& a, const write_piece& b) const {
      return a.offset < b.offset;
    }
    bool operator()(const write_piece& a, std::uint64_t b) const { return a.offset < b; }
    bool operator()(std::uint64_t a, const write_piece& b) const { return a < b.offset; }
  };
  using piece_set = boost::intrusive::set<
      write_piece,
      boost::intrusive::member_hook<write_piece, boost::intrusive::set_member_hook<>,
                                    &write_piece::by_offset>,
      boost::intrusive::compare<by_offset>, boost::intrusive::constant_time_size<false>>;

 public:
  using iterator = piece_set::iterator;

  // Nodes that one put takes at most: its own, and one for the tail of a piece that it splits.
  static constexpr std::size_t nodes_per_put = 2;

  // Puts `bytes`, at least one and within `block`, over what is there; how many it replaced.
  std::uint64_t put(piece_pool& from, lease block, std::span<const std::byte> bytes,
                    std::uint64_t offset);
  // Takes out so many pieces from that one on, and gives their blocks back; the one behind them.
  iterator remove(piece_pool& into, iterator first, std::size_t count);
  // As remove, of all from that one on.
  void clear(piece_pool& into, iterator first);

  // What is at `offset`: contiguous memory, or (null) nothing so far; at most up to `end`.
  struct view {
    const std::byte* data = nullptr;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] view look(std::uint64_t offset, std::uint64_t end) const;

  [[nodiscard]] bool empty() const { return pieces_.empty(); }
  [[nodiscard]] std::uint64_t end_offset() const {  // 0 when empty
    return empty() ? 0 : pieces_.rbegin()->end();
  }
  [[nodiscard]] iterator begin() { return pieces_.begin(); }
  [[nodiscard]] iterator end() { return pieces_.end(); }
  [[nodiscard]] static iterator at(write_piece& p) { return piece_set::s_iterator_to(p); }
  void swap(range_map& other) { pieces_.swap(other.pieces_); }

 private:
  template <class Set>
  static auto first_ending_behind(Set& pieces, std::uint64_t offset);
  std::uint64_t cut(piece_pool& pool, std::uint64_t begin, std::uint64_t end);
  void split(piece_pool& pool, iterator which, std::uint64_t at);
  piece_set pieces_;
};

}  // namespace sluice
