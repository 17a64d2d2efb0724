// A protocol with every shape of frame, streams of it that a seed fixes, and what a receiver has to
// make of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sluice/frames.hpp"
#include "support/seeded_data.hpp"

namespace support {

// Heads as BitTorrent has them: the length of what follows in four bytes, big-endian; a type; and
// for `piece` eight bytes more before the payload. `note` carries a payload to be viewed. Length 0
// is a frame of four bytes.
namespace framed {

inline constexpr std::uint8_t have = 4;   // a head of 9 bytes
inline constexpr std::uint8_t note = 5;   // a head of 5 bytes and a view
inline constexpr std::uint8_t piece = 7;  // a head of 13 bytes and a block
inline constexpr std::uint64_t payload_bytes_max = 1 << 20;

inline std::uint32_t number_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    value = value << 8U | std::to_integer<std::uint32_t>(bytes[i]);
  }
  return value;
}

inline sluice::frame_shape parse(void*, std::span<const std::byte> head) noexcept {
  sluice::frame_shape shape;
  const std::uint32_t length = number_at(head, 0);
  shape.head_bytes = 4 + std::min(length, 9U);  // to be asked again; all of it is this frame's
  if (shape.head_bytes > head.size() || length == 0) return shape;
  shape.kind = std::to_integer<std::uint32_t>(head[4]);
  shape.bad = shape.kind != have && shape.kind != note && shape.kind != piece;
  if (shape.kind == have) shape.head_bytes = 9;
  if (shape.kind == note) {
    shape.head_bytes = 5;
    shape.place = sluice::frame_place::view;
    shape.payload_bytes = std::uint64_t{length} - 1;
  }
  if (shape.kind == piece) {
    shape.head_bytes = 13;
    shape.payload_bytes = std::uint64_t{length} - 9;  // below 9: far over the limit
  }
  return shape;
}

inline sluice::frame_protocol protocol() {
  return {.head_bytes_min = 4,
          .head_bytes_max = 13,
          .payload_bytes_max = payload_bytes_max,
          .parse = parse};
}

}  // namespace framed

// One frame as it was sent, or put together again from its parts.
struct whole_frame {
  std::uint32_t kind = 0;
  std::vector<std::byte> head;
  std::vector<std::byte> payload;
  bool operator==(const whole_frame& other) const {
    return kind == other.kind && same_bytes(head, other.head) && same_bytes(payload, other.payload);
  }
};

class framed_stream {
 public:
  explicit framed_stream(std::uint64_t seed) : random_(seed) {}

  void keep_alive() { add(0, 4, 0); }
  void have() { add(framed::have, 9, 0); }
  void note(std::size_t bytes) { add(framed::note, 5, bytes); }
  void piece(std::size_t bytes) { add(framed::piece, 13, bytes); }
  // As a stream does that is bulk for a while, then talk, then anything.
  void anything(std::size_t frames) {
    for (std::size_t i = 0; i < frames; ++i) {
      const std::uint64_t what = random_.below(12);
      if (what == 0) keep_alive();
      if (what == 1 || what == 2) have();
      if (what == 3) note(random_.below(6000));
      if (what == 4) piece(1 + random_.below(20'000));
      if (what > 4) piece(what == 11 ? 4096 : 16'384);
    }
  }
  void raw(std::span<const std::byte> more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  }

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::vector<whole_frame>& frames() const { return frames_; }

 private:
  void add(std::uint32_t kind, std::size_t head_bytes, std::size_t payload_bytes) {
    whole_frame f{kind, pattern(random_.next(), 0, head_bytes),
                  pattern(random_.next(), 0, payload_bytes)};
    const auto length = static_cast<std::uint32_t>(head_bytes - 4 + payload_bytes);
    for (std::size_t i = 0; i < 4; ++i) f.head[i] = static_cast<std::byte>(length >> (24 - 8 * i));
    if (head_bytes > 4) f.head[4] = static_cast<std::byte>(kind);
    raw(f.head);
    raw(f.payload);
    frames_.push_back(std::move(f));
  }
  seeded_random random_;
  std::vector<std::byte> bytes_;
  std::vector<whole_frame> frames_;
};

// Puts parts together to frames, as a user does who keeps blocks for a while and pads them: what it
// was given must not change until it lets go.
class frame_keeper {
 public:
  explicit frame_keeper(std::size_t keep) : keep_(keep) {}

  // False: not what the interface promises.
  bool take(sluice::frame f) {
    bool right = !f.head.empty();
    if (f.payload_offset == 0) {
      frames.push_back({f.kind, {f.head.begin(), f.head.end()}, {}});
    }
    whole_frame& into = frames.back();
    right = right && into.payload.size() == f.payload_offset;
    into.payload.insert(into.payload.end(), f.payload.begin(), f.payload.end());
    right = right && (f.last_part() == (into.payload.size() == f.payload_bytes));
    if (!f.block)
      return right && (f.payload.empty() || f.payload.data() == f.head.data() + f.head.size());
    right = right && f.block.data() == f.payload.data();
    right = right && reinterpret_cast<std::uintptr_t>(f.payload.data()) % 4096 == 0;
    right = right && f.block.size() == (f.payload.size() + 4095) / 4096 * 4096;
    std::ranges::fill(f.block.bytes().subspan(f.payload.size()), std::byte{0xee});
    kept_.push_back({std::move(f.block), {f.payload.begin(), f.payload.end()}});
    while (kept_.size() > keep_) right = let_go() && right;
    return right;
  }
  bool let_go_of_all() {
    bool right = true;
    while (!kept_.empty()) right = let_go() && right;
    return right;
  }

  std::vector<whole_frame> frames;

 private:
  struct kept {
    sluice::lease block;
    std::vector<std::byte> payload;
  };
  bool let_go() {
    const kept& oldest = kept_.front();
    const bool unchanged =
        same_bytes(oldest.block.bytes().first(oldest.payload.size()), oldest.payload);
    kept_.erase(kept_.begin());
    return unchanged;
  }
  std::size_t keep_;
  std::vector<kept> kept_;
};

inline sluice::task<sluice::result<sluice::frame>> next_of(sluice::frame_receiver& frames,
                                                           std::chrono::nanoseconds timeout = {}) {
  co_return co_await frames.next(timeout);
}

}  // namespace support
