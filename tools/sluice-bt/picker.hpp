// Which block to ask whom for: rare pieces first, then in their order; a piece from one peer where
// there is a choice, so that its blocks come in order and a bad one has one culprit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "bitfield.hpp"
#include "layout.hpp"

namespace bt {

struct block_ref {
  std::uint32_t piece = 0;
  std::uint32_t begin = 0;  // in the piece, a multiple of block_bytes
  std::uint32_t bytes = 0;
  bool operator==(const block_ref&) const = default;
};

using source_id = std::uint32_t;  // of one connection; never 0

// Whether a peer may be asked for what another one was asked for already.
enum class duplicates : std::uint8_t { no, at_the_end };

class picker {
 public:
  explicit picker(const layout& of);

  void add_source(const bitfield& has);
  void add_piece_of_source(std::uint32_t piece);
  void remove_source(const bitfield& has);

  // The next block to ask `source` for; nothing when it has none that is wanted. With duplicates at
  // the end, once every block left was asked for, it is one that another source still owes.
  std::optional<block_ref> next(source_id source, const bitfield& has, duplicates allowed);
  // The source will not send it.
  void give_back(source_id source, const block_ref& block);
  // The source goes on with nothing that it has begun. The pieces that were to come from it alone:
  // what has come of those is wanted anew.
  std::vector<std::uint32_t> release(source_id source);

  // To be called for each source at equal intervals. True: a piece that only this source may send
  // has been waited for so long that another one may take it over.
  bool grow_older(source_id source);
  // Such a piece, for a source for which next() has nothing; it comes anew, from this one alone.
  struct overdue {
    std::uint32_t piece = 0;
    source_id owner = 0;  // who was to send it
  };
  [[nodiscard]] std::optional<overdue> find_overdue(source_id source, const bitfield& has) const;
  void take_over(source_id source, std::uint32_t piece);

  struct arrival {
    bool wanted = false;  // false: somebody else was faster, or the source was not asked
    source_id other = 0;  // who was asked for it too and need not send it
    bool whole = false;   // the last block of its piece
  };
  arrival arrived(source_id source, const block_ref& block);

  // Found on the disk, or received whole and right.
  void verified(std::uint32_t piece);
  // Who sent each block of a piece that was received whole and has no verdict yet.
  [[nodiscard]] std::vector<source_id> senders(std::uint32_t piece) const;
  // Received whole and wrong: wanted again, this time from one source alone.
  void rejected(std::uint32_t piece);

  [[nodiscard]] const bitfield& have() const { return have_; }
  [[nodiscard]] std::uint32_t have_count() const { return have_count_; }
  // Received or verified, and not yet found wrong or begun anew; grows as long as there is
  // progress.
  [[nodiscard]] std::uint64_t blocks_here() const;
  [[nodiscard]] bool complete() const { return have_count_ == layout_.pieces(); }
  // Nothing is to be asked for: what is not verified was received whole.
  [[nodiscard]] bool received_all() const;
  [[nodiscard]] bool wants_any(const bitfield& of) const;

 private:
  enum class block_state : std::uint8_t { wanted, asked, here };
  struct block {
    block_state state = block_state::wanted;
    source_id first = 0;  // who was asked; who sent it
    source_id second = 0;
  };
  struct active_piece {
    std::uint32_t piece = 0;
    source_id owner = 0;  // 0: nobody
    bool alone = false;   // for its owner only
    unsigned age = 0;     // intervals with this owner
    unsigned age_max =
        0;  // before another one may take it over; twice as many for each further one
    std::uint32_t wanted = 0;
    std::uint32_t missing = 0;
    std::vector<block> blocks;
  };

  [[nodiscard]] active_piece* find(std::uint32_t piece) const;
  static void begin_anew(active_piece& one);
  active_piece* begin_piece(source_id source, const bitfield& has);
  active_piece* choose(source_id source, const bitfield& has);
  [[nodiscard]] block_ref ref_of(const active_piece& of, std::size_t index) const;
  std::optional<block_ref> owed_by_others(source_id source, const bitfield& has);
  void count_source(std::uint32_t piece, int change);

  const layout& layout_;
  bitfield have_;
  std::uint32_t have_count_ = 0;
  std::vector<std::uint32_t> sources_;                         // that have it, for each piece
  std::vector<bool> suspect_;                                  // was received wrong from several
  std::set<std::pair<std::uint32_t, std::uint32_t>> missing_;  // {sources, piece}, not begun
  std::vector<std::unique_ptr<active_piece>> active_;
};

}  // namespace bt
