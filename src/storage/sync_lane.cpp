#include "storage/sync_lane.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>

#include "kernel/clock.hpp"
#include "ops/table.hpp"
#include "storage/naming.hpp"

namespace sluice {
namespace {

lane_wait& wait_of(op& o) { return static_cast<lane_wait&>(o); }

op_request sync_of(int fd, std::uint32_t flags) {
  op_request request;
  request.kind = op_kind::fsync;
  request.fd = fd;
  request.flags = flags;
  return request;
}

}  // namespace

bool is_lost_sync(int failure) { return failure != ECANCELED && failure != code::no_thread; }

sync_lane::sync_lane(const lane_key& key, loop& on, const tuning::commit_knobs& knobs,
                     lane_host& host)
    : key_(key), loop_(on), knobs_(knobs), host_(host) {
  gathering_.request.kind = op_kind::timeout;
  gathering_.context = this;
  gathering_.complete = due;
  serving_.context = this;
  serving_.complete = ended;
}

void sync_lane::join(lane_wait& w) {
  waiting_.push_back(w);
  ++waiting_count_;
  waiting_bytes_ += w.bytes;
  consider();
}

// Begins in the next turn at the earliest: whoever becomes ready in this one is of the group, and a
// task cancelled in this one has asked for nothing yet.
void sync_lane::consider() {
  if (serving_.state() != op_state::idle) return;
  if (gathering_.state() == op_state::idle) {
    const std::int64_t delay_us = waits_for_more() ? knobs_.delay_us : 0;
    gathering_.deadline_ns = kernel::deadline_after(is_full() ? 0 : delay_us * 1000);
    loop_.start(gathering_, nullptr);
  } else if (gathering_.state() == op_state::in_flight && is_full()) {
    loop_.cancel(gathering_, ECANCELED);
  }
}

bool sync_lane::waits_for_more() const {
  return key_.kind == lane_kind::file || key_.kind == lane_kind::filesystem;
}

bool sync_lane::is_full() const {
  return waiting_count_ >= knobs_.count_max || waiting_bytes_ >= knobs_.bytes_max;
}

void sync_lane::due(op& o) noexcept { static_cast<sync_lane*>(o.context)->go_on(); }

void sync_lane::go_on() {
  if (waiting_.empty()) {
    waiting_count_ = 0;
    waiting_bytes_ = 0;
    host_.idle(*this);
  } else if (host_.may_begin(*this)) {
    begin();
  }
}

void sync_lane::begin() {
  take_members();
  serving_.request = request_for_members();
  loop_.start(serving_, nullptr);
}

void sync_lane::take_members() {
  member_count_ = 0;
  std::uint64_t bytes = 0;
  while (!waiting_.empty() && member_count_ < knobs_.count_max) {
    lane_wait& w = wait_of(waiting_.front());
    if (member_count_ > 0 && bytes + w.bytes > knobs_.bytes_max) break;
    waiting_.pop_front();
    w.scope_link.unlink();
    members_.push_back(w);
    bytes += w.bytes;
    ++member_count_;
  }
  waiting_count_ -= std::min(waiting_count_, member_count_);
  waiting_bytes_ -= std::min(waiting_bytes_, bytes);
}

// What they wrote may have been lost with the members' bytes, and another sync would say 0
// (kernel-notes/failed_sync_is_told_once.md).
void sync_lane::take_all() {
  while (!waiting_.empty()) {
    lane_wait& w = wait_of(waiting_.front());
    waiting_.pop_front();
    w.scope_link.unlink();
    members_.push_back(w);
  }
  waiting_count_ = 0;
  waiting_bytes_ = 0;
}

// Whoever has a turn is at it: were it taken here, the sync could wait for workers that wait for
// the turn, or for that of another engine that waits the same way.
op_request sync_lane::request_for_members() {
  if (key_.kind == lane_kind::naming) return call_of(serve_members, this);
  const lane_wait& first = wait_of(members_.front());
  const bool of_directory = key_.kind == lane_kind::directory;
  turn_ = of_directory ? sync_turns::key{key_.device, key_.inode} : first.turn;
  called_sync_ = of_directory ? sync_of(first.fd, 0) : sync_of_data();
  bool by_call = turn_ != sync_turns::key{};
  for (op& o : members_) by_call = by_call || wait_of(o).when == modified::now;
  if (!by_call) return called_sync_;
  op_request call = call_of(sync_members, this);
  call.fd = called_sync_.fd;
  return call;
}

op_request sync_lane::sync_of_data() {
  const int first = wait_of(members_.front()).fd;
  const bool one = member_count_ == 1 && knobs_.grouping != tuning::grouping_choice::filesystem;
  return one || key_.kind == lane_kind::file ? sync_of(first, fsync_data_only)
                                             : sync_of_filesystem();
}

op_request sync_lane::sync_of_filesystem() {
  descriptors_.clear();
  for (op& o : members_) descriptors_.push_back(wait_of(o).fd);
  op_request request;
  request.kind = op_kind::syncfs;
  request.fd = wait_of(members_.front()).fd;
  request.data = descriptors_.data();
  request.length = descriptors_.size();
  return request;
}

// On a worker. The loop thread leaves members alone until the call has ended.
std::int64_t sync_lane::serve_members(void* lane) {
  for (op& o : static_cast<sync_lane*>(lane)->members_) {
    lane_wait& w = wait_of(o);
    w.failure_ = w.serve(w.subject);
  }
  return 0;
}

// On a worker, as serve_members. The call itself does not fail: what the sync said must not look
// like an interrupted call, which is repeated.
std::int64_t sync_lane::sync_members(void* lane) {
  auto& l = *static_cast<sync_lane*>(lane);
  for (op& o : l.members_) {
    if (wait_of(o).when == modified::now) date_now(wait_of(o).fd);
  }
  std::optional<sync_turns::hold> turn;
  if (l.turn_ != sync_turns::key{}) turn.emplace(sync_turns::of_process(), l.turn_);
  l.called_outcome_ = row_of(l.called_sync_.kind).perform(l.called_sync_);
  return 0;
}

void sync_lane::ended(op& o) noexcept {
  sync_lane& l = *static_cast<sync_lane*>(o.context);
  const bool called = o.request.function == sync_members;
  const op_request by = called ? l.called_sync_ : o.request;
  const std::int64_t outcome = called && o.outcome() >= 0 ? l.called_outcome_ : o.outcome();
  l.host_.served(by, wait_of(l.members_.front()), outcome);
  if (l.key_.kind == lane_kind::file && outcome < 0 && is_lost_sync(static_cast<int>(-outcome))) {
    l.take_all();
  }
  while (!l.members_.empty()) {
    lane_wait& w = wait_of(l.members_.front());
    l.loop_.answer_parked(w, outcome < 0 ? outcome : -w.failure_);
  }
  if (l.waiting_.empty()) {
    l.go_on();
  } else {
    l.consider();
  }
}

}  // namespace sluice
