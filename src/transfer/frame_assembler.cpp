#include "transfer/frame_assembler.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace sluice {
namespace {

std::size_t view_memory(const frame_protocol& protocol, const tuning::frames_knobs& knobs) {
  return std::max<std::size_t>(knobs.view_bytes, protocol.head_bytes_max);
}

// {rest of a payload} + {head, slot} per predicted frame + {a last head}
std::size_t pieces_max(const tuning::frames_knobs& knobs) {
  return 2 * std::size_t{knobs.batch} + 2;
}

}  // namespace

frame_assembler::frame_assembler(const frame_protocol& protocol, const tuning::frames_knobs& knobs,
                                 frame_mode mode, std::uint32_t block_bytes)
    : protocol_(protocol),
      block_bytes_(block_bytes),
      batch_(knobs.batch),
      view_bytes_(knobs.view_bytes),
      view_(std::make_unique<std::byte[]>(view_memory(protocol, knobs))),
      heads_(std::make_unique<std::byte[]>((batch_ + 1) * protocol.head_bytes_max)),
      predictor_(knobs, mode, block_bytes),
      pending_(pieces_max(knobs) + 1) {
  vectors_.reserve(pieces_max(knobs));
}

std::uint32_t frame_assembler::aligned(std::uint64_t bytes) const {
  const std::uint64_t mask = protocol_.alignment - 1;
  return static_cast<std::uint32_t>((bytes + mask) & ~mask);
}

frame_assembler::step frame_assembler::refuse(int code, const char* where) {
  failure_ = {code, "frame", where};
  return step::failed;
}

frame_assembler::step frame_assembler::next() {
  out_ = {};
  if (failure_.code != 0) return step::failed;
  if (!begun_) {
    const step read = read_head();
    if (!begun_) return read;
  }
  if (!placed_) {
    const step placed = place_part();
    if (!placed_) return placed;
  }
  return fill_part();
}

// A view, or too few bytes, or a fault; or `begun_` is set and the payload follows.
frame_assembler::step frame_assembler::read_head() {
  std::size_t shown = protocol_.head_bytes_min;
  frame_shape shape;
  while (true) {
    if (pending_.size() < shown) {
      wanted_ = shown;
      return step::bytes;
    }
    if (!pending_.together(shown)) pending_.gather(view_.get(), shown);
    shape = protocol_.parse(protocol_.context, {pending_.front(), shown});
    if (shape.bad || shape.head_bytes == 0) return refuse(code::bad_frame, "head of a frame");
    if (shape.head_bytes > protocol_.head_bytes_max) {
      return refuse(code::bad_frame, "a head longer than the protocol allows");
    }
    if (shape.head_bytes <= shown) break;
    shown = shape.head_bytes;
  }
  if (shape.payload_bytes > protocol_.payload_bytes_max) {
    return refuse(code::bad_frame, "a payload longer than the protocol allows");
  }
  // The least sluice.frames.view_bytes is more than the longest head: nothing wraps.
  const bool short_enough = shape.payload_bytes <= view_bytes_ - shape.head_bytes;
  if (shape.payload_bytes == 0 || (shape.place == frame_place::view && short_enough)) {
    return give_view(shape);
  }
  begin_payload(shape);
  return step::bytes;
}

frame_assembler::step frame_assembler::give_view(const frame_shape& shape) {
  const std::size_t payload_bytes = shape.payload_bytes;
  const std::size_t bytes = shape.head_bytes + payload_bytes;
  if (pending_.size() < bytes) {
    wanted_ = bytes;
    return step::bytes;
  }
  if (!pending_.together(bytes)) pending_.gather(view_.get(), bytes);
  out_.head = {pending_.front(), shape.head_bytes};
  out_.payload = {pending_.front() + shape.head_bytes, payload_bytes};
  out_.payload_bytes = payload_bytes;
  out_.kind = shape.kind;
  pending_.drop(bytes);
  predictor_.saw_view();
  ++stats_.frames;
  ++stats_.views;
  return step::frame;
}

void frame_assembler::begin_payload(const frame_shape& shape) {
  shape_ = shape;
  // A copy: what is received or moved next may overwrite the place it came to.
  std::memcpy(head_.data(), pending_.front(), shape.head_bytes);
  pending_.drop(shape.head_bytes);
  begun_ = true;
  offset_ = 0;
  predictor_.saw_block(shape.head_bytes, shape.payload_bytes);
}

// Where the part goes: where it lies already, if that will do; else behind the parts before it.
frame_assembler::step frame_assembler::place_part() {
  const auto bytes = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(shape_.payload_bytes - offset_, block_bytes_));
  const std::size_t present = std::min<std::size_t>(bytes, pending_.size());
  if (present > 0 && block_) {
    const std::ptrdiff_t at = pending_.front() - block_.data();
    const bool fits = at >= std::ptrdiff_t{used_} && at % protocol_.alignment == 0 &&
                      at + std::ptrdiff_t{bytes} <= std::ptrdiff_t{block_bytes_};
    if (fits && pending_.can_move(pending_.front(), present)) {
      used_ = static_cast<std::uint32_t>(at);
    }
  }
  if (!block_ || std::uint64_t{used_} + bytes > block_bytes_) {
    spill();
    block_.reset();
    return step::block;
  }
  if (!pending_.can_move(block_.data() + used_, present)) spill();
  part_ = {block_.data() + used_, bytes, 0};
  used_ = aligned(used_ + bytes);
  placed_ = true;
  return step::frame;
}

// Takes what is pending out of the block. The one place that may allocate: after a wrong
// prediction whose repair needs more room than the block has.
void frame_assembler::spill() {
  if (!block_ || !pending_.any_within(block_.bytes())) return;
  const std::size_t bytes = pending_.size();
  spilled_.resize(std::max(spilled_.size(), bytes));
  moved_ += bytes;
  stats_.copied_bytes += bytes;
  pending_.gather(spilled_.data(), bytes);
}

frame_assembler::step frame_assembler::fill_part() {
  const auto bytes =
      static_cast<std::uint32_t>(std::min<std::size_t>(part_.bytes - part_.got, pending_.size()));
  const std::size_t moved = pending_.move_front(part_.at + part_.got, bytes);
  moved_ += moved;
  stats_.copied_bytes += moved;
  part_.got += bytes;
  if (part_.got < part_.bytes) return step::bytes;
  const auto at = static_cast<std::uint32_t>(part_.at - block_.data());
  out_.head = {head_.data(), shape_.head_bytes};
  out_.payload = {part_.at, part_.bytes};
  // The user may pad the payload up to the alignment: what was received there must go.
  const std::uint32_t padded = aligned(part_.bytes);
  if (pending_.any_within({part_.at + part_.bytes, padded - part_.bytes})) spill();
  out_.block = block_.part(at, padded);
  out_.payload_bytes = shape_.payload_bytes;
  out_.payload_offset = offset_;
  out_.kind = shape_.kind;
  offset_ += part_.bytes;
  placed_ = false;
  begun_ = offset_ < shape_.payload_bytes;
  ++stats_.frames;
  return step::frame;
}

// A payload that fills more than a block has no slot that could be predicted; and a stream that has
// none for a while keeps no block, or it would take one and drop it again for ever.
bool frame_assembler::scatters() const {
  return predictor_.mode() == frame_mode::scatter && predictor_.bulk() &&
         predictor_.payload_bytes() <= block_bytes_;
}

bool frame_assembler::room_for_slot() const {
  return block_ && used_ + predictor_.payload_bytes() <= block_bytes_;
}

// What is here of the frame at hand does not say yet that it is another one.
bool frame_assembler::prediction_holds() const {
  return pending_.size() < predictor_.head_bytes() && wanted_ <= predictor_.head_bytes();
}

// The beginning of a frame stays, at the start of view_, while the memory it came to is used again.
void frame_assembler::carry() {
  const std::size_t bytes = pending_.size();
  if (bytes > 0) pending_.gather(view_.get(), bytes);
  carried_ = bytes;
}

void frame_assembler::judge_prediction() {
  if (!std::exchange(scattering_, false)) return;
  if (moved_ > 0) ++stats_.mispredicted;
  predictor_.scattered(moved_ > 0);
  stats_.fallbacks = predictor_.fallbacks();
}

frame_assembler::memory frame_assembler::lacking() {
  carry();
  judge_prediction();
  const frame_mode mode = predictor_.mode();
  const bool small = !predictor_.bulk();
  if (small) drop_block();
  if (mode == frame_mode::contiguous) {
    if (small && buffer_.size() == block_bytes_) buffer_.reset();
    if (!buffer_) return memory::buffer;
    return !small && buffer_.size() < block_bytes_ ? memory::larger_buffer : memory::nothing;
  }
  buffer_.reset();
  if (scatters() && !placed_ && prediction_holds() && !room_for_slot()) {
    block_.reset();
    return memory::block;
  }
  return memory::nothing;
}

void frame_assembler::give_block(lease block) {
  block_ = std::move(block);
  used_ = 0;
}

void frame_assembler::drop_block() {
  if (!placed_) block_.reset();
}

void frame_assembler::give_buffer(lease buffer) {
  carry();
  buffer_ = std::move(buffer);
}

void frame_assembler::want(std::byte* at, std::size_t bytes) {
  assert(bytes > 0);
  vectors_.push_back({at, bytes});
  pending_.add(at, bytes);
}

// The first piece: what lacks of a head or view of `bytes`, behind what is carried of it.
void frame_assembler::plan_head(std::size_t bytes) {
  vectors_.push_back({view_.get() + carried_, bytes - carried_});
  pending_.clear();
  pending_.add(view_.get(), bytes);
}

void frame_assembler::plan_slots() {
  const std::uint64_t payload_bytes = predictor_.payload_bytes();
  const std::size_t head_bytes = predictor_.head_bytes();
  std::uint64_t slot = used_;
  std::size_t frames = 0;
  if (!placed_) {
    want(block_.data() + slot, payload_bytes);
    slot += aligned(payload_bytes);
    ++frames;
  }
  std::byte* head = heads_.get();
  for (; frames < batch_ && slot + payload_bytes <= block_bytes_; ++frames) {
    want(head, head_bytes);
    want(block_.data() + slot, payload_bytes);
    head += head_bytes;
    slot += aligned(payload_bytes);
  }
  // The block is full: the next head comes along, so that its payload alone waits for a new one.
  if (frames == 0) want(head, head_bytes);
}

frame_assembler::receive_plan frame_assembler::plan() {
  assert(pending_.size() == carried_);  // by lacking()
  vectors_.clear();
  moved_ = 0;
  stats_.mode = predictor_.mode();
  scattering_ = stats_.mode == frame_mode::scatter;
  if (placed_) want(part_.at + part_.got, part_.bytes - part_.got);
  const bool parts_follow = begun_ && offset_ + part_.bytes < shape_.payload_bytes;
  if (stats_.mode == frame_mode::contiguous) {
    if (buffer_) want(buffer_.data(), buffer_.size());
  } else if (!placed_) {
    // A predicted head may be longer than the frame at hand: then it brings the next along.
    const bool predicted = prediction_holds();
    plan_head(predicted ? predictor_.head_bytes() : wanted_);
    if (predicted && scatters()) plan_slots();
  } else if (stats_.mode == frame_mode::scatter && !parts_follow) {
    plan_slots();
  }
  assert(!vectors_.empty());
  ++stats_.receives;
  return {vectors_, stats_.mode == frame_mode::two_step && placed_};
}

void frame_assembler::received(std::size_t bytes) {
  pending_.trim(carried_ + bytes);
  stats_.bytes += bytes;
}

void frame_assembler::feed(std::span<std::byte> bytes) {
  assert(pending_.size() == carried_ && !bytes.empty());
  buffer_.reset();
  if (!predictor_.bulk()) drop_block();
  moved_ = 0;
  pending_.add(bytes.data(), bytes.size());
  stats_.bytes += bytes.size();
  stats_.mode = frame_mode::multishot;
  ++stats_.receives;
}

void frame_assembler::release() {
  carry();
  buffer_.reset();
  drop_block();
  spilled_ = {};
}

}  // namespace sluice
