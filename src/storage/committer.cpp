#include "storage/committer.hpp"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "storage/file_state.hpp"

namespace sluice {

committer& committer_of(engine_core& core) {
  std::unique_ptr<engine_part>& part = core.storage_part();
  if (!part) {
    part = std::make_unique<committer>(
        core.loop(), core.values().commit, core.counters(),
        [&core](std::string_view text) { core.say(log_level::warning, text); });
  }
  return static_cast<committer&>(*part);
}

committer::committer(loop& on, const tuning::commit_knobs& knobs, tuning::counters& counters,
                     warn_function warn)
    : loop_(on), knobs_(knobs), counters_(counters), warn_(std::move(warn)) {}

void committer::join(const lane_key& key, lane_wait& w, scope* task_scope) {
  loop_.start(w, task_scope);
  // Not when its task was cancelled before: it is told so by the loop.
  if (w.state() == op_state::in_flight) lane_of(key).join(w);
}

sync_lane& committer::lane_of(const lane_key& key) {
  const auto found = lanes_.lower_bound(key);
  if (found != lanes_.end() && found->first == key) return found->second;
  if (spare_.empty()) {
    lane_host& host = *this;
    const auto made =
        lanes_.emplace_hint(found, std::piecewise_construct, std::forward_as_tuple(key),
                            std::forward_as_tuple(key, loop_, knobs_, host));
    return made->second;
  }
  auto node = std::move(spare_.back());
  spare_.pop_back();
  node.key() = key;
  node.mapped().serve_from_now(key);
  return lanes_.insert(found, std::move(node))->second;
}

committer::solo::solo(committer& on, const kernel::inode_info& directory)
    : on_(on), in_(on.entered({lane_kind::directory, directory.device, directory.inode})) {
  ++on_.solos_;
}

committer::solo::~solo() {
  --on_.solos_;
  --in_.solos;
  const auto held_back = on_.lanes_.find(in_.key);
  if (in_.solos == 0 && held_back != on_.lanes_.end()) held_back->second.resume();
}

committer::solo_directory* committer::solos_in(int directory_fd) {
  if (solos_ == 0) return nullptr;
  const result<kernel::inode_info> inode = kernel::inode_of(directory_fd);
  if (!inode) return nullptr;
  const lane_key wanted{lane_kind::directory, inode->device, inode->inode};
  for (solo_directory& d : solo_directories_) {
    if (d.solos > 0 && d.key == wanted) return &d;
  }
  return nullptr;
}

committer::solo_directory& committer::entered(const lane_key& key) {
  solo_directory* free = nullptr;
  for (solo_directory& d : solo_directories_) {
    if (d.solos == 0) {
      free = &d;
    } else if (d.key == key) {
      ++d.solos;
      return d;
    }
  }
  if (free == nullptr) free = &solo_directories_.emplace_back();
  free->key = key;
  free->solos = 1;
  return *free;
}

bool committer::may_begin(const sync_lane& l) {
  return std::ranges::none_of(
      solo_directories_, [&l](const solo_directory& d) { return d.solos > 0 && d.key == l.key(); });
}

void committer::idle(sync_lane& l) { spare_.push_back(lanes_.extract(l.key())); }

lane_key committer::data_lane(const file_state& of, const kernel::inode_info& inode) {
  const lane_key own{lane_kind::file, 0, reinterpret_cast<std::uintptr_t>(&of)};
  if (knobs_.grouping == tuning::grouping_choice::each) return own;
  if (inode.bytes >= knobs_.bytes_max) return own;
  const auto on = known_filesystems_.find(inode);
  if (!on) return own;
  if (const char* why = on->syncfs_distrust(); why != nullptr) {
    warn_of_distrust(why, inode.device);
    return own;
  }
  return {lane_kind::filesystem, inode.device, 0};
}

// Once for each filesystem.
void committer::warn_of_distrust(const char* why, std::uint64_t device) {
  if (knobs_.grouping != tuning::grouping_choice::filesystem) return;
  if (std::ranges::find(warned_, device) != warned_.end()) return;
  warned_.push_back(device);
  warn_(std::string("sluice.commit.grouping=filesystem is each here: ") + why);
}

void committer::served(const op_request& by, const lane_wait& first, std::int64_t outcome) {
  if (by.kind == op_kind::call) {
    counters_.publish.batches.add();
    return;
  }
  if (by.kind == op_kind::syncfs && outcome >= 0) counters_.commit.filesystem_syncs.add();
  note_sync(first.fd, outcome);
}

void committer::note_sync(int fd, std::int64_t outcome) {
  if (outcome >= 0) {
    counters_.commit.syncs.add();
  } else if (is_lost_sync(static_cast<int>(-outcome))) {
    counters_.commit.failures.add();
    lose_trust(fd, static_cast<int>(-outcome));
  }
}

bool committer::is_for_solo(std::uint64_t workers) const {
  return solos_ < std::min<std::uint64_t>(knobs_.solo_max, workers) && lanes_.empty() &&
         knobs_.delay_us == 0 && knobs_.grouping != tuning::grouping_choice::filesystem;
}

// Whatever failed, ENOSPC and EDQUOT included: the kernel may have dropped pages that others on the
// same filesystem were told are written
// (kernel-notes/failed_sync_is_told_once.md).
void committer::lose_trust(int fd, int failure) {
  const result<kernel::inode_info> inode = kernel::inode_of(fd);
  if (!inode) {
    count_loss();
    return;
  }
  if (add_suspect(inode->device)) {
    warn_("a sync failed (" + std::string(code_name(failure)) + ") on the filesystem of device " +
          std::to_string(major(inode->device)) + ":" + std::to_string(minor(inode->device)) +
          "; nothing is published there until the disk is looked at and " +
          (failed_ ? "the process started anew" : "the suspicion cleared (clear-suspects)"));
  }
  if (on_suspect_) on_suspect_(inode->device);
}

void committer::count_loss() {
  if (knobs_.on_failure == tuning::sync_failure_choice::fail_engine) failed_ = true;
  ++losses_;
}

bool committer::add_suspect(std::uint64_t device) {
  count_loss();
  auto known = std::ranges::find(suspects_, device, &suspect::device);
  if (known == suspects_.end()) known = suspects_.insert(known, {device, 0, false});
  known->last_loss = losses_;
  if (known->refused) return false;
  known->refused = true;
  counters_.commit.suspects.set(++suspects_refused_);
  return true;
}

int committer::refusal() const { return failed_ ? code::engine_failed : 0; }

int committer::refusal(std::uint64_t device) const {
  if (failed_) return code::engine_failed;
  const auto found = std::ranges::find(suspects_, device, &suspect::device);
  return found != suspects_.end() && found->refused ? code::filesystem_suspect : 0;
}

bool committer::lost_since(std::uint64_t number, std::uint64_t device) const {
  const auto found = std::ranges::find(suspects_, device, &suspect::device);
  return found != suspects_.end() && found->last_loss > number;
}

std::size_t committer::clear_suspects() {
  for (suspect& s : suspects_) s.refused = false;
  counters_.commit.suspects.set(0);
  cleared_losses_ = losses_;
  return std::exchange(suspects_refused_, 0);
}

}  // namespace sluice
