// Makes few large writes of many small blocks of one file. The file is seen as stripes of
// merge_bytes: the pieces of a stripe are gathered until they fill it, or must not wait any longer,
// then they leave together, each run of adjacent ones as one write.
//
//   post -> gathered  by offset, later pieces cut earlier ones (storage/range_map.hpp)
//        -> due       the stripe is to be written; first come, first served
//        -> leaving   sealed: what is posted now is gathered for the next round. Begun run by run,
//                     as far as slots allow
//        -> stored    out of memory; the next round may begin
//
// A stripe has one round at a time, and no write reaches into two stripes: so writes that overlap,
// or share a page, are in order, without looking for them.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/waiter.hpp"
#include "memory/buffer_pool.hpp"
#include "ops/lists.hpp"
#include "sluice/block_writer.hpp"
#include "storage/merged_write.hpp"
#include "storage/range_map.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

struct write_limits {
  std::uint64_t merge_bytes = 0;  // a power of two
  std::uint64_t batch_bytes = 0;
  std::size_t depth = 1;
  std::size_t pieces_max = 0;
  std::int64_t delay_ns = 0;
};

// Loop thread only. Must not be busy() when it is destroyed.
class write_batcher {
 public:
  // `blocks` is the class that posted leases come from.
  write_batcher(loop& on, const buffer_class& blocks, tuning::write_counters& counters,
                const write_target& target, const write_limits& limits);
  write_batcher(const write_batcher&) = delete;
  write_batcher& operator=(const write_batcher&) = delete;
  ~write_batcher();

  // 0; EAGAIN: no room for so many bytes; or failure(). Takes the block only on 0. `bytes` lie in
  // the block and end before 2^63.
  [[nodiscard]] int post(lease& block, std::span<const std::byte> bytes, std::uint64_t offset);
  [[nodiscard]] bool has_room() const {
    return failure_ != 0 || has_room_for(blocks_.block_bytes());
  }
  // Parks `wait` until there is.
  void wait_for_room(op& wait, scope* task_scope);

  // Writes what is gathered in the stripes of [begin, end) without further delay.
  void hasten(std::uint64_t begin, std::uint64_t end);
  // Drops what was not begun. Nothing may be posted any more.
  void abandon();
  // Whether the kernel or the loop still has something of it; and until not, for one coroutine.
  [[nodiscard]] bool busy() const;
  [[nodiscard]] waiter::wait_await idle() {
    idle_.forget();
    return idle_.notified_shielded();
  }

  // The bytes at `offset` that are not yet in the file, the newest; or how many are in it.
  [[nodiscard]] range_map::view look(std::uint64_t offset, std::uint64_t end) const;
  // Whether bytes are not yet in the file; none once it has failed but those being written.
  [[nodiscard]] bool holds_bytes() const { return !stripes_.empty(); }
  // Where the last byte ends that is not yet in the file; 0 when all are.
  [[nodiscard]] std::uint64_t end_offset() const;

  // Of the first write that failed, 0 while none has.
  [[nodiscard]] int failure() const { return failure_; }
  [[nodiscard]] const block_writer_stats& stats() const { return stats_; }
  // Numbers posts, from 1.
  [[nodiscard]] std::uint64_t posted() const { return stats_.blocks; }

  // Whether bytes of [begin, end), posted up to number `last`, are not yet in the file; never once
  // it has failed. Moves `begin` past what needs not be looked at again.
  [[nodiscard]] bool keeps_back(std::uint64_t& begin, std::uint64_t end, std::uint64_t last) const;

  // Parks until a round of the stripe at `begin` has ended, right after keeps_back() was true.
  class [[nodiscard]] round_await {
   public:
    round_await(write_batcher& on, std::uint64_t begin) : on_(on), begin_(begin) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
      wait_.request.kind = op_kind::park;
      wait_.context = awaiting.address();
      wait_.complete = [](op& o) noexcept {
        std::coroutine_handle<>::from_address(o.context).resume();
      };
      on_.wait_for_round(wait_, awaiting.promise().task_scope(), begin_);
    }
    // False: cancelled.
    [[nodiscard]] bool await_resume() const noexcept { return wait_.outcome() >= 0; }

   private:
    write_batcher& on_;
    std::uint64_t begin_;
    op wait_;
  };

 private:
  // Where a stripe is, and what its link is on.
  enum class stripe_state : std::uint8_t {
    gathering,  // its gathered pieces wait for neighbours, perhaps beside a round whose writes are
                // all begun; gathering_, the longest waiting first
    due,        // has pieces to be begun: those gathered when nothing is leaving, else what is left
                // of the round; due_
    leaving,    // the writes of a round are all begun; nothing is gathered, or it is `wanted` and
                // follows at the end of the round; no list
  };
  struct stripe {
    boost::intrusive::set_member_hook<> by_begin;
    boost::intrusive::list_member_hook<> link;
    stripe_state state = stripe_state::leaving;
    bool wanted = false;                // its gathered pieces must not wait for neighbours
    std::uint64_t begin = 0;            // in the file
    std::uint64_t gathered_bytes = 0;   // without gaps and overlaps
    std::uint64_t gathered_oldest = 0;  // number of the post since which something is gathered
    std::uint64_t leaving_oldest = 0;   // the same of the round
    std::int64_t since_ns = 0;          // gathered pieces wait
    write_piece* unbegun = nullptr;     // from this one on in leaving; null: none
    range_map gathered;
    range_map leaving;
    op_list waiting;  // for the end of a round
  };
  struct begin_order {
    bool operator()(const stripe& a, const stripe& b) const { return a.begin < b.begin; }
    bool operator()(const stripe& a, std::uint64_t b) const { return a.begin < b; }
    bool operator()(std::uint64_t a, const stripe& b) const { return a < b.begin; }
  };
  using stripe_set = boost::intrusive::set<
      stripe,
      boost::intrusive::member_hook<stripe, boost::intrusive::set_member_hook<>, &stripe::by_begin>,
      boost::intrusive::compare<begin_order>, boost::intrusive::constant_time_size<false>>;
  using stripe_list = boost::intrusive::list<
      stripe,
      boost::intrusive::member_hook<stripe, boost::intrusive::list_member_hook<>, &stripe::link>>;
  // One write under way: a run of pieces of a stripe's round.
  struct slot {
    op write;
    write_batcher* owner = nullptr;
    stripe* of = nullptr;
    merged_write run;
  };

  [[nodiscard]] bool has_room_for(std::uint64_t bytes) const;
  [[nodiscard]] bool is_greedy() const;
  [[nodiscard]] stripe& stripe_at(std::uint64_t offset);
  void gather(lease block, std::span<const std::byte> bytes, std::uint64_t offset);
  void hasten(stripe& s);
  void make_due(stripe& s);
  void wait_for_neighbours(stripe& s);
  [[nodiscard]] bool pressed() const;
  void press();
  static void time_is_up(op& o) noexcept;
  void hasten_aged();
  void arm();

  void pump();
  void seal(stripe& s);
  [[nodiscard]] bool begin_write(stripe& s);
  static void ended(op& o) noexcept;
  void count(const merged_write& run);
  void end_round(stripe& s);
  void fail(int code);
  void drop_unbegun();
  void go_on();

  void wait_for_round(op& wait, scope* task_scope, std::uint64_t at);
  void wake(op_list& waiting);

  // Never change.
  loop& loop_;
  const buffer_class& blocks_;
  tuning::write_counters& counters_;
  const write_target target_;
  const write_limits limits_;
  // Loop thread.
  piece_pool pieces_;
  node_pool<stripe> stripe_pool_;
  stripe_set stripes_;
  stripe_list gathering_;
  stripe_list due_;
  std::uint64_t waiting_bytes_ = 0;  // of the stripes in gathering_
  std::uint64_t leaving_bytes_ = 0;  // of the writes under way
  std::uint64_t kept_bytes_ = 0;     // of all pieces
  std::unique_ptr<slot[]> slots_;
  std::vector<slot*> free_slots_;
  std::size_t under_way_ = 0;
  write_access access_ = write_access::cached;  // of the writes under way
  op timer_;
  op_list waiting_for_room_;
  waiter idle_;
  bool abandoned_ = false;
  int failure_ = 0;
  block_writer_stats stats_;
};

}  // namespace sluice
