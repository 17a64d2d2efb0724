// Makes data and names durable for many at once, and knows where durability was lost.
//
//   a publish    data -> name -> directory, each step in a lane (storage/sync_lane.hpp); or solo,
//                all by one worker beside the lanes, while few publish
//   data         grouping=each, large files, filesystems whose syncfs is not known to be enough:
//                lane_kind::file. Else lane_kind::filesystem, one syncfs for all that wait there.
//   a commit     lane_kind::file, always: syncfs may leave overwritten blocks in the cache of the
//                disk, and only the sync of the name that follows in a publish flushes it
//                (kernel-notes/syncfs_error_per_descriptor.md)
//   a directory  lane_kind::directory: publishes, removals and new directories share its sync
#pragma once

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/engine_core.hpp"
#include "kernel/file_info.hpp"
#include "sluice/engine.hpp"
#include "sluice/result.hpp"
#include "storage/filesystems.hpp"
#include "storage/sync_lane.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

struct file_state;

// Loop thread only.
class committer final : public engine_part, private lane_host {
 public:
  using warn_function = std::function<void(std::string_view)>;

  committer(loop& on, const tuning::commit_knobs& knobs, tuning::counters& counters,
            warn_function warn);
  committer(const committer&) = delete;
  committer& operator=(const committer&) = delete;

  // Awaits one turn of a lane: >= 0, or -errno of what the lane did. -ECANCELED: nothing was done.
  class [[nodiscard]] turn_await {
   public:
    turn_await(committer& on, const lane_key& key) : on_(on), key_(key) {}
    lane_wait wait;  // to be filled in before it is awaited

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
      wait.context = awaiting.address();
      wait.complete = [](op& o) noexcept {
        std::coroutine_handle<>::from_address(o.context).resume();
      };
      on_.join(key_, wait, awaiting.promise().task_scope());
    }
    [[nodiscard]] std::int64_t await_resume() const noexcept { return wait.outcome(); }

   private:
    committer& on_;
    lane_key key_;
  };

  // Starts the parked op and has it wait in the lane of that key.
  void join(const lane_key& key, lane_wait& w, scope* task_scope);

  // A directory that solo publishes are under way in.
  struct solo_directory {
    lane_key key;
    std::size_t solos = 0;
    std::mutex one_at_a_time;                // held by a worker while it names a file and syncs
    std::atomic<std::uint64_t> failures{0};  // of these syncs; counted while it is held
  };
  // Held by a publish that does all of its work at once, beside the lanes. Of a directory one sync
  // runs at a time, be it of a solo or of a lane: on a filesystem without a journal one that comes
  // second finds nothing left to write and does not wait for the first
  // (kernel-notes/failed_sync_is_told_once.md).
  class [[nodiscard]] solo {
   public:
    solo(committer& on, const kernel::inode_info& directory);
    solo(const solo&) = delete;
    solo& operator=(const solo&) = delete;
    ~solo();
    [[nodiscard]] solo_directory& in() const { return in_; }

   private:
    committer& on_;
    solo_directory& in_;
  };
  // Whether a publish is better off by itself than in the lanes (sluice.commit.solo_max): few are
  // under way, and a hand-over from lane to lane costs each more than sharing saves. At most
  // `workers` of them: a disk that hangs must leave some for others.
  [[nodiscard]] bool is_for_solo(std::uint64_t workers) const;
  // Those of a directory, or null. None begins while a lane has work, so whoever waits in one need
  // not ask again; what this points to stays, though perhaps for another directory.
  [[nodiscard]] solo_directory* solos_in(int directory_fd);
  // Whether data_lane depends on the filesystem.
  [[nodiscard]] bool groups() const { return knobs_.grouping != tuning::grouping_choice::each; }
  // What a sync said: counts it, and distrusts its filesystem when it was lost.
  void note_sync(int fd, std::int64_t outcome);

  // For all that works with files: which filesystems they are on (storage/look.hpp).
  [[nodiscard]] filesystems& known_filesystems() { return known_filesystems_; }

  // The lane for the data of a file that is being published; where its filesystem is not known, its
  // own.
  [[nodiscard]] lane_key data_lane(const file_state& of, const kernel::inode_info& inode);

  // Why nothing may be published on a filesystem: code::filesystem_suspect, code::engine_failed; 0.
  [[nodiscard]] int refusal(std::uint64_t device) const;
  // Why nothing may be committed: code::engine_failed; 0.
  [[nodiscard]] int refusal() const;
  // Whether refusal(device) can be anything but 0.
  [[nodiscard]] bool refuses_somewhere() const { return failed_ || suspects_refused_ > 0; }
  // Numbers lost syncs, from 1; 0 while there were none. Of these, cleared_losses() were when
  // suspects were cleared last: whoever asked for that has taken them into account.
  [[nodiscard]] std::uint64_t losses() const { return losses_; }
  [[nodiscard]] std::uint64_t cleared_losses() const { return cleared_losses_; }
  // Whether one on that filesystem came after that number. Then no sync that says yes vouches for
  // what was changed before: the error may have been told to the other one alone.
  [[nodiscard]] bool lost_since(std::uint64_t number, std::uint64_t device) const;
  // Lets suspect filesystems be published on again; how many there were.
  std::size_t clear_suspects();
  // engine::on_suspect
  void on_suspect(suspect_callback told) { on_suspect_ = std::move(told); }
  // A loss on that filesystem, seen here or by another engine. Whether it was not refused before.
  bool add_suspect(std::uint64_t device);

 private:
  // A filesystem of lost syncs: they are remembered, the refusal can be cleared.
  struct suspect {
    std::uint64_t device = 0;
    std::uint64_t last_loss = 0;
    bool refused = true;
  };

  void served(const op_request& by, const lane_wait& first, std::int64_t outcome) override;
  [[nodiscard]] bool may_begin(const sync_lane& l) override;
  void idle(sync_lane& l) override;
  sync_lane& lane_of(const lane_key& key);
  solo_directory& entered(const lane_key& key);
  void warn_of_distrust(const char* why, std::uint64_t device);
  void lose_trust(int fd, int failure);
  void count_loss();

  loop& loop_;
  const tuning::commit_knobs& knobs_;
  tuning::counters& counters_;
  warn_function warn_;
  suspect_callback on_suspect_;
  std::map<lane_key, sync_lane> lanes_;
  std::vector<std::map<lane_key, sync_lane>::node_type> spare_;  // so that nothing is allocated
  filesystems known_filesystems_;
  std::vector<std::uint64_t> warned_;  // devices where grouping=filesystem is each
  std::vector<suspect> suspects_;
  std::size_t suspects_refused_ = 0;
  std::uint64_t losses_ = 0;
  std::uint64_t cleared_losses_ = 0;
  bool failed_ = false;
  std::uint64_t solos_ = 0;
  std::deque<solo_directory> solo_directories_;  // those without solos are for others
};

// The engine's, made when first asked for.
[[nodiscard]] committer& committer_of(engine_core& core);

}  // namespace sluice
