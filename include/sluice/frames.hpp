// Framed receive: streams of frames, each a small head and perhaps a payload, whose length the head
// tells (BitTorrent, NBD, NVMe/TCP, Kafka). Payloads come to lie page-aligned in blocks of the
// buffer pool, ready for O_DIRECT; small messages are handed out as contiguous bytes.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "sluice/api.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/stream.hpp"

namespace sluice {

class engine;
class frame_await;

// Where a payload is wanted.
enum class frame_place : std::uint8_t {
  block,  // aligned, in a lease: data that goes to a file
  view,   // right behind its head, in memory of the receiver: messages to be read at once
};

// What the head of a frame says.
struct frame_shape {
  // Of this frame's head. More than were shown: the parser is asked again once so many are there,
  // which must all belong to this frame.
  std::uint32_t head_bytes = 0;
  // What follows the head; may be 0. Means nothing yet while head_bytes is more than were shown.
  std::uint64_t payload_bytes = 0;
  // view is granted up to sluice.frames.view_bytes, head included; a longer payload gets a block.
  frame_place place = frame_place::block;
  std::uint32_t kind = 0;  // the protocol's own mark, given back in the frame
  bool bad = false;        // no head of this protocol: next() yields code::bad_frame
};

// A protocol, as the receiver needs to know it.
struct frame_protocol {
  std::uint32_t head_bytes_min = 1;     // shown to the parser at first: 1 to head_bytes_max
  std::uint32_t head_bytes_max = 64;    // a longer head is a bad frame: at most 256
  std::uint64_t payload_bytes_max = 0;  // a longer payload is a bad frame
  std::uint32_t alignment = 4096;       // of payloads in blocks: a power of two, at most 4096
  // Reads the beginning of a frame; `head` holds head_bytes_min bytes, or as many as it asked for;
  // some of them may be payload. May be asked several times for one frame and must say the same
  // each time. Must not call the receiver.
  frame_shape (*parse)(void* context, std::span<const std::byte> head) noexcept = nullptr;
  void* context = nullptr;  // the user's; must outlive the receiver
};

// A frame, or one part of it: a payload longer than sluice.memory.block_bytes comes in parts of at
// most that size, each with the same head.
struct frame {
  // Valid until the next call of next(). Empty: the peer closed the stream between two frames.
  std::span<const std::byte> head;
  // This part of the payload. Writable. In `block` when that holds memory and then valid as long as
  // it; else right behind `head`, and valid as long as that.
  std::span<std::byte> payload;
  // The payload's share of a block: begins with it, aligned, and reaches to the next multiple of
  // the alignment, so that a last sector may be padded. Payloads that follow one another lie in the
  // same block while it has room, the ones of equal aligned length without a gap.
  lease block;
  std::uint64_t payload_bytes = 0;   // of the whole frame
  std::uint64_t payload_offset = 0;  // of this part in it
  std::uint32_t kind = 0;

  explicit operator bool() const { return !head.empty(); }
  [[nodiscard]] bool last_part() const { return payload_offset + payload.size() == payload_bytes; }
};

// How frames are received. All but the last are for measurements and for streams one knows well.
enum class frame_mode : std::uint8_t {
  // One receive of {head, slot} x N that predicts frames like the last one: one call for many
  // payloads, none copied. What a wrong prediction misplaced is moved.
  scatter,
  contiguous,  // Large receives; payloads are copied out, but for the rest of one cut off.
  two_step,    // A call for the head and one for the payload; nothing is copied.
  // A receive that stays with the ring and takes buffers of sluice.frames.provided_bytes as bytes
  // come; payloads are copied out. EOPNOTSUPP where no ring carries it (ring.op.recv_multishot);
  // where the knob asks for it, contiguous then.
  multishot,
  automatic,  // By what the peer sends, see sluice.frames.* .
};

struct frame_options {
  // automatic: as sluice.frames.mode says.
  frame_mode mode = frame_mode::automatic;
};

// What a receiver did so far.
struct frame_stats {
  std::uint64_t frames = 0;                  // handed out, parts one by one
  std::uint64_t views = 0;                   // of them, without a block
  std::uint64_t receives = 0;                // calls; in mode multishot buffers filled
  std::uint64_t bytes = 0;                   // received
  std::uint64_t copied_bytes = 0;            // payload bytes moved with memcpy
  std::uint64_t mispredicted = 0;            // scatter receives with payloads that had to be moved
  std::uint64_t fallbacks = 0;               // times mode auto gave predictions up for a while
  frame_mode mode = frame_mode::contiguous;  // of the last receive; never automatic
};

// Receives the frames of one stream, in order. Holds at most one partly used block and one receive
// buffer beyond what it handed out: back-pressure is the pool, and whoever wants less of it calls
// next() less often. Without a block no receive is posted, and TCP closes the window. A peer silent
// for sluice.frames.idle_ms holds no block at all, but for a payload it has begun.
//
// Nothing is received between two calls of next(), because the head and a view of the last frame
// lie in the receiver's memory until then: what comes meanwhile waits in the socket's buffer. In
// mode multishot a receive is always posted: up to an eighth of the provided buffers fill before
// it is taken back until the next call.
//
// Loop thread only. Must not be destroyed while a next() is awaited; frames handed out may outlive
// it. It is the only one to receive from the stream from its first next() on.
class SLUICE_API frame_receiver {
 public:
  // `from` must stay where it is, open, and outlive the receiver. A protocol out of its ranges
  // makes every next() yield EINVAL.
  frame_receiver(engine& on, stream& from, const frame_protocol& protocol,
                 const frame_options& options = {});
  frame_receiver(frame_receiver&&) noexcept;
  frame_receiver& operator=(frame_receiver&&) noexcept;
  ~frame_receiver();

  // Awaits the next frame: result<frame>. Allocates nothing, but for a wrong prediction that cannot
  // be repaired in place. Every frame that was whole before a fault is yielded before the fault.
  // Errors: code::bad_frame (by the parser, or a head or payload over its limit; final),
  // code::end_of_stream (inside a frame; final), ECONNRESET and the like, ETIMEDOUT when nothing
  // whole has come within `timeout` (zero: no limit) and ECANCELED; after these two nothing is lost
  // and next() may be called again.
  [[nodiscard]] frame_await next(std::chrono::nanoseconds timeout = {});

  [[nodiscard]] const frame_stats& stats() const;

 private:
  friend class frame_await;
  struct state;
  std::unique_ptr<state> state_;
};

// What frame_receiver::next gives to co_await.
class [[nodiscard]] SLUICE_API frame_await {
 public:
  [[nodiscard]] bool await_ready() noexcept;  // a frame that is there already suspends nobody
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    return begin(awaiting, awaiting.promise().task_scope());
  }
  result<frame> await_resume() noexcept;

 private:
  friend class frame_receiver;
  frame_await(frame_receiver::state& from, std::chrono::nanoseconds timeout)
      : from_(&from), timeout_(timeout) {}
  bool begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept;
  frame_receiver::state* from_;
  std::chrono::nanoseconds timeout_;
};

}  // namespace sluice
