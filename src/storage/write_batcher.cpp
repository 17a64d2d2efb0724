#include "storage/write_batcher.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "backend/loop.hpp"
#include "base/assert.hpp"
#include "kernel/clock.hpp"

namespace sluice {
namespace {

std::uint64_t stripes_of(std::uint64_t bytes, std::uint64_t merge_bytes) {
  return bytes / merge_bytes + 2;  // it may begin and end inside one
}

// Those of one file wait for each other (the inode's lock), each in a thread of its own: on a disk
// that hangs, more of them would keep the threads from other disks.
constexpr std::size_t cached_under_way_max = 4;

// Enough for the largest block, whatever the limits say: else nobody could ever post it.
std::size_t nodes_for(const write_limits& limits, std::uint64_t block_bytes) {
  const std::uint64_t least =
      stripes_of(block_bytes, limits.merge_bytes) * range_map::nodes_per_put;
  return std::max<std::size_t>(limits.pieces_max, least);
}

}  // namespace

write_batcher::write_batcher(loop& on, const buffer_class& blocks, tuning::write_counters& counters,
                             const write_target& target, const write_limits& limits)
    : loop_(on),
      blocks_(blocks),
      counters_(counters),
      target_(target),
      limits_(limits),
      pieces_(nodes_for(limits, blocks.block_bytes())),
      stripe_pool_(nodes_for(limits, blocks.block_bytes())),  // each has a piece
      slots_(std::make_unique<slot[]>(limits.depth)),
      idle_(on) {
  free_slots_.reserve(limits.depth);
  for (std::size_t i = 0; i < limits.depth; ++i) {
    slots_[i].owner = this;
    slots_[i].write.context = &slots_[i];
    slots_[i].write.complete = ended;
    free_slots_.push_back(&slots_[i]);
  }
  timer_.request.kind = op_kind::timeout;
  timer_.context = this;
  timer_.complete = time_is_up;
}

write_batcher::~write_batcher() {
  base::require(!busy(), "a block writer's memory ended before its writes had");
  abandon();
}

bool write_batcher::busy() const { return under_way_ > 0 || timer_.state() != op_state::idle; }

// Gathering

// While memory is scarce a file keeps half of it at most: its disk may hang, and the others have to
// go on.
bool write_batcher::is_greedy() const {
  return blocks_.scarce() && kept_bytes_ * 2 >= blocks_.blocks() * blocks_.block_bytes();
}

bool write_batcher::has_room_for(std::uint64_t bytes) const {
  return !is_greedy() &&
         pieces_.left() >= stripes_of(bytes, limits_.merge_bytes) * range_map::nodes_per_put;
}

int write_batcher::post(lease& block, std::span<const std::byte> bytes, std::uint64_t offset) {
  assert(!abandoned_);
  if (failure_ != 0) return failure_;
  if (!has_room_for(bytes.size())) return EAGAIN;
  ++stats_.blocks;
  counters_.blocks.add();
  const lease taken = std::move(block);
  while (!bytes.empty()) {
    const std::uint64_t left_in_stripe = limits_.merge_bytes - offset % limits_.merge_bytes;
    const auto own = bytes.first(std::min<std::uint64_t>(bytes.size(), left_in_stripe));
    gather(taken.part(static_cast<std::uint32_t>(own.data() - taken.data()),
                      static_cast<std::uint32_t>(own.size())),
           own, offset);
    bytes = bytes.subspan(own.size());
    offset += own.size();
  }
  press();
  pump();
  arm();
  return 0;
}

write_batcher::stripe& write_batcher::stripe_at(std::uint64_t offset) {
  const std::uint64_t begin = offset - offset % limits_.merge_bytes;
  const auto found = stripes_.lower_bound(begin, begin_order{});
  if (found != stripes_.end() && found->begin == begin) return *found;
  stripe& made = stripe_pool_.take();
  made.begin = begin;
  stripes_.insert(found, made);
  return made;
}

void write_batcher::gather(lease block, std::span<const std::byte> bytes, std::uint64_t offset) {
  stripe& s = stripe_at(offset);
  if (s.gathered.empty()) {
    s.gathered_oldest = posted();
    if (s.state == stripe_state::leaving) wait_for_neighbours(s);
  }
  const std::uint64_t replaced = s.gathered.put(pieces_, std::move(block), bytes, offset);
  s.gathered_bytes += bytes.size() - replaced;
  kept_bytes_ += bytes.size() - replaced;
  if (s.state == stripe_state::gathering) waiting_bytes_ += bytes.size() - replaced;
  stats_.replaced_bytes += replaced;
  counters_.replaced_bytes.add(replaced);
  if (s.gathered_bytes < limits_.merge_bytes || s.wanted) return;
  counters_.full.add();
  hasten(s);
}

void write_batcher::wait_for_neighbours(stripe& s) {
  s.state = stripe_state::gathering;
  s.since_ns = kernel::now_ns();
  gathering_.push_back(s);
  waiting_bytes_ += s.gathered_bytes;
}

// What is gathered joins the queue, or does so at the end of the round that is leaving.
void write_batcher::hasten(stripe& s) {
  if (s.gathered.empty()) return;
  s.wanted = true;
  if (s.state == stripe_state::gathering) {
    gathering_.erase(stripe_list::s_iterator_to(s));
    waiting_bytes_ -= s.gathered_bytes;
    s.state = stripe_state::leaving;
  }
  if (s.state == stripe_state::leaving && s.leaving.empty()) make_due(s);
}

void write_batcher::hasten(std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t first = begin - begin % limits_.merge_bytes;
  for (auto s = stripes_.lower_bound(first, begin_order{}); s != stripes_.end() && s->begin < end;
       ++s) {
    hasten(*s);
  }
  pump();
  arm();
}

void write_batcher::make_due(stripe& s) {
  s.state = stripe_state::due;
  due_.push_back(s);
  if (free_slots_.empty()) counters_.queued.add();
}

bool write_batcher::pressed() const {
  return waiting_bytes_ > limits_.batch_bytes || blocks_.scarce() || !has_room();
}

// Only as much as keeps the disk busy: while it is, memory comes back by itself, and what waits may
// still find its neighbours.
void write_batcher::press() {
  while (!gathering_.empty() && due_.size() + under_way_ < limits_.depth && pressed()) {
    counters_.pressed.add();
    hasten(gathering_.front());
  }
}

// One timer, for the stripe that has waited longest when it is armed; where that was written
// earlier, it fires in vain, once.
void write_batcher::arm() {
  if (gathering_.empty() || timer_.state() != op_state::idle) return;
  timer_.deadline_ns = gathering_.front().since_ns + limits_.delay_ns;
  loop_.start(timer_, nullptr);
}

void write_batcher::time_is_up(op& o) noexcept {
  write_batcher& b = *static_cast<write_batcher*>(o.context);
  b.hasten_aged();
  b.go_on();
}

void write_batcher::hasten_aged() {
  const std::int64_t now = kernel::now_ns();
  while (!gathering_.empty() && gathering_.front().since_ns + limits_.delay_ns <= now) {
    counters_.aged.add();
    hasten(gathering_.front());
  }
}

// Writing

void write_batcher::pump() {
  while (!due_.empty() && !free_slots_.empty()) {
    stripe& s = due_.front();
    if (s.leaving.empty()) seal(s);
    if (!begin_write(s)) return;
    if (s.unbegun != nullptr) continue;
    due_.pop_front();
    s.state = stripe_state::leaving;
    if (!s.gathered.empty() && !s.wanted) wait_for_neighbours(s);
  }
}

void write_batcher::seal(stripe& s) {
  s.leaving.swap(s.gathered);
  s.leaving_oldest = s.gathered_oldest;
  s.unbegun = &*s.leaving.begin();
  s.gathered_bytes = 0;
  s.wanted = false;
}

// False: writes of the other access are under way, or enough, and have to end first.
bool write_batcher::begin_write(stripe& s) {
  const write_access by = access_of(*s.unbegun, target_);
  if (under_way_ > 0 && by != access_) return false;
  if (by == write_access::cached && under_way_ >= cached_under_way_max) return false;
  access_ = by;
  slot& w = *free_slots_.back();
  free_slots_.pop_back();
  w.of = &s;
  s.unbegun = w.run.take(*s.unbegun, s.leaving, target_);
  w.write.request = w.run.request(target_);
  ++under_way_;
  leaving_bytes_ += w.run.bytes();
  // Of no task's scope: the blocks of many are in it.
  loop_.start(w.write, nullptr);
  return true;
}

void write_batcher::ended(op& o) noexcept {
  slot& w = *static_cast<slot*>(o.context);
  write_batcher& b = *w.owner;
  stripe& s = *w.of;
  --b.under_way_;
  b.leaving_bytes_ -= w.run.bytes();
  b.kept_bytes_ -= w.run.bytes();
  b.free_slots_.push_back(&w);
  s.leaving.remove(b.pieces_, range_map::at(w.run.first()), w.run.pieces());
  if (o.outcome() >= 0) {
    b.count(w.run);
  } else {
    b.counters_.failures.add();
    b.fail(static_cast<int>(-o.outcome()));
  }
  // A failure has ended the rounds of which no write is under way.
  if (s.leaving.empty() && s.by_begin.is_linked()) b.end_round(s);
  b.go_on();
}

void write_batcher::count(const merged_write& run) {
  ++stats_.ops;
  stats_.bytes += run.bytes();
  counters_.ops.add();
  counters_.bytes.add(run.bytes());
  if (run.pieces() > 1) counters_.merged.add(run.pieces());
  if (run.has_vectors() && run.is_fixed()) counters_.vectors_fixed.add();
  if (run.access() == write_access::cached) return;
  stats_.direct_bytes += run.bytes();
  counters_.direct_bytes.add(run.bytes());
}

// Nothing of the stripe is leaving any more.
void write_batcher::end_round(stripe& s) {
  wake(s.waiting);
  if (s.gathered.empty()) {
    stripes_.erase(stripe_set::s_iterator_to(s));
    stripe_pool_.give_back(s);
  } else if (s.wanted) {
    make_due(s);
  }
}

// What follows from a write that ended or a time that is up.
void write_batcher::go_on() {
  press();
  pump();
  arm();
  if (has_room()) wake(waiting_for_room_);
  if (!busy()) idle_.notify();
}

// The end

void write_batcher::fail(int code) {
  if (failure_ != 0) return;
  failure_ = code;
  drop_unbegun();
}

void write_batcher::abandon() {
  abandoned_ = true;
  drop_unbegun();
  loop_.cancel(timer_, ECANCELED);
}

// Of every stripe nothing is left but the writes under way.
void write_batcher::drop_unbegun() {
  gathering_.clear();
  due_.clear();
  waiting_bytes_ = 0;
  kept_bytes_ = leaving_bytes_;
  for (auto at = stripes_.begin(); at != stripes_.end();) {
    stripe& s = *at++;
    s.gathered.clear(pieces_, s.gathered.begin());
    s.gathered_bytes = 0;
    s.wanted = false;
    s.state = stripe_state::leaving;
    if (s.unbegun != nullptr) s.leaving.clear(pieces_, range_map::at(*s.unbegun));
    s.unbegun = nullptr;
    wake(s.waiting);
    if (s.leaving.empty()) end_round(s);
  }
}

// Reading and waiting

range_map::view write_batcher::look(std::uint64_t offset, std::uint64_t end) const {
  const std::uint64_t first = offset - offset % limits_.merge_bytes;
  const auto s = stripes_.lower_bound(first, begin_order{});
  if (s == stripes_.end() || s->begin >= end) return {nullptr, end - offset};
  if (s->begin > offset) return {nullptr, s->begin - offset};
  const std::uint64_t here = std::min(end, s->begin + limits_.merge_bytes);
  const range_map::view newest = s->gathered.look(offset, here);
  if (newest.data != nullptr) return newest;
  return s->leaving.look(offset, offset + newest.bytes);
}

std::uint64_t write_batcher::end_offset() const {
  if (stripes_.empty()) return 0;
  const stripe& last = *stripes_.rbegin();
  return std::max(last.gathered.end_offset(), last.leaving.end_offset());
}

// A post that replaced others is as old as they: whoever waits for them waits for it. Numbers only
// grow, so a stripe that keeps nothing back now never will.
bool write_batcher::keeps_back(std::uint64_t& begin, std::uint64_t end, std::uint64_t last) const {
  if (failure_ != 0) return false;
  const std::uint64_t first = begin - begin % limits_.merge_bytes;
  for (auto s = stripes_.lower_bound(first, begin_order{}); s != stripes_.end() && s->begin < end;
       ++s) {
    begin = std::max(begin, s->begin);
    if (!s->leaving.empty() && s->leaving_oldest <= last) return true;
    if (!s->gathered.empty() && s->gathered_oldest <= last) return true;
  }
  return false;
}

void write_batcher::wait_for_round(op& wait, scope* task_scope, std::uint64_t at) {
  loop_.start(wait, task_scope);
  // Not when its task was cancelled before: the loop tells it.
  if (wait.state() == op_state::in_flight) stripe_at(at).waiting.push_back(wait);
}

void write_batcher::wait_for_room(op& wait, scope* task_scope) {
  counters_.room_waits.add();
  loop_.start(wait, task_scope);
  if (wait.state() == op_state::in_flight) waiting_for_room_.push_back(wait);
}

void write_batcher::wake(op_list& waiting) {
  while (!waiting.empty()) loop_.answer_parked(waiting.front(), 0);
}

}  // namespace sluice
