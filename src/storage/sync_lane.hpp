// A lane: one sync at a time, for all that wait for it. Who comes while it runs is of the next
// group, because a sync covers only what was complete when it began
// (kernel-notes/fsync_does_not_wait_for_writes_in_flight.md).
//
// Where a wait is, and who may end it:
//   waiting_  in the scope of its task; a cancel takes it off, and nothing has happened
//   members_  out of that scope: the kernel has its descriptor, so a cancel waits for the answer
// A sync of one file that fails is the answer to those who wait by then, too. What
// others of this process may sync, too, is synced in its turn (storage/sync_turns.hpp), for which a
// worker waits.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/loop.hpp"
#include "ops/lists.hpp"
#include "sluice/file.hpp"
#include "sluice/op.hpp"
#include "storage/sync_turns.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

enum class lane_kind : std::uint8_t {
  file,        // fdatasync of one open file
  filesystem,  // the data of several files: syncfs, or fdatasync of one that is alone
  directory,   // fsync of a directory, whoever has it open
  naming,      // a worker that gives names, one after the other
};

// Whose turn it is in a lane, and the order of lanes in the committer.
struct lane_key {
  lane_kind kind = lane_kind::file;
  std::uint64_t device = 0;  // of the filesystem; 0 for lane_kind::file
  std::uint64_t inode = 0;   // of the directory; the address of the file's state; else 0

  friend auto operator<=>(const lane_key&, const lane_key&) = default;
};

// One who waits, in the frame of the awaiting coroutine.
class lane_wait : public op {
 public:
  lane_wait() { request.kind = op_kind::park; }

  int fd = -1;                           // what is synced; open until the wait has ended
  std::uint64_t bytes = 0;               // of the file, for sluice.commit.bytes_max
  sync_turns::key turn;                  // lane_kind::file: of a file that others may have; none
  modified when = modified::as_written;  // lane_kind::file and filesystem
  // lane_kind::naming: called on a worker with `subject`; 0 or an errno, which this wait is told.
  int (*serve)(void* subject) = nullptr;
  void* subject = nullptr;

 private:
  friend class sync_lane;
  int failure_ = 0;  // of serve
};

// Whether a failure says that a sync was tried and what is on the disk is unknown. Not: a cancel,
// or no thread to be had for it.
[[nodiscard]] bool is_lost_sync(int failure);

class sync_lane;

// Who owns lanes. Told after each group, before its members are.
class lane_host {
 public:
  // What has served `first` and those with it ended with `outcome`: >= 0 or -errno.
  virtual void served(const op_request& by, const lane_wait& first, std::int64_t outcome) = 0;
  // False: what runs beside the lanes must end first; then sync_lane::resume.
  [[nodiscard]] virtual bool may_begin(const sync_lane& l) = 0;
  // Nobody waits and nothing runs: the lane may serve another key.
  virtual void idle(sync_lane& l) = 0;

 protected:
  ~lane_host() = default;
};

// Loop thread only, but for what a worker does to members.
class sync_lane {
 public:
  sync_lane(const lane_key& key, loop& on, const tuning::commit_knobs& knobs, lane_host& host);
  sync_lane(const sync_lane&) = delete;
  sync_lane& operator=(const sync_lane&) = delete;

  // `w` is parked and on no list.
  void join(lane_wait& w);

  // After the host has held it back.
  void resume() { consider(); }

  [[nodiscard]] const lane_key& key() const { return key_; }
  // While idle only.
  void serve_from_now(const lane_key& key) { key_ = key; }

 private:
  void consider();
  void begin();
  void go_on();
  [[nodiscard]] bool is_full() const;
  [[nodiscard]] bool waits_for_more() const;
  void take_members();
  void take_all();
  [[nodiscard]] op_request request_for_members();
  [[nodiscard]] op_request sync_of_data();
  [[nodiscard]] op_request sync_of_filesystem();
  static void due(op& o) noexcept;
  static void ended(op& o) noexcept;
  static std::int64_t serve_members(void* lane);
  static std::int64_t sync_members(void* lane);

  lane_key key_;
  loop& loop_;
  const tuning::commit_knobs& knobs_;
  lane_host& host_;
  op_list waiting_;
  op_list members_;
  // Of those waiting; cancelled ones count until the list is empty, which only ends a delay early.
  std::size_t waiting_count_ = 0;
  std::uint64_t waiting_bytes_ = 0;
  std::size_t member_count_ = 0;
  std::vector<int> descriptors_;  // of the members, for syncfs
  // A sync that is a part of a call of a worker, behind the dating of members or in a turn.
  op_request called_sync_;
  std::int64_t called_outcome_ = 0;
  sync_turns::key turn_;
  op gathering_;  // the timer until a group begins
  op serving_;
};

}  // namespace sluice
