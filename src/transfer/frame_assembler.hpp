// Makes frames out of a byte stream: says where the next bytes are to be received, takes them, and
// hands out frames. No I/O and no waiting: transfer/frame_receiver.cpp does both.
//
//   next()      a frame, a fault, or what is lacking: a block, or bytes
//   lacking()   before bytes are received: the memory that the receive needs first
//   plan()      the pieces of memory to receive into, in the order of the stream
//   received()  so many bytes came into them
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sluice/frames.hpp"
#include "sluice/lease.hpp"
#include "transfer/frame_predictor.hpp"
#include "transfer/received_bytes.hpp"

namespace sluice {

class frame_assembler {
 public:
  frame_assembler(const frame_protocol& protocol, const tuning::frames_knobs& knobs,
                  frame_mode mode, std::uint32_t block_bytes);

  enum class step : std::uint8_t {
    frame,   // frame() may be taken
    failed,  // failure() says why; final
    block,   // give_block, then next() again
    bytes,   // plan, receive, received, then next() again
  };
  [[nodiscard]] step next();
  [[nodiscard]] frame take() { return std::move(out_); }
  [[nodiscard]] const error& failure() const { return failure_; }

  enum class memory : std::uint8_t {
    nothing,
    block,          // a block for payloads
    buffer,         // one for contiguous bytes; in the middle of a payload it may be done without
    larger_buffer,  // a block for contiguous bytes in place of a small one; may be done without
  };
  // Before plan(): what the next receive needs. Keeps only what it needs: whoever waits for a block
  // holds none, so that receivers cannot wait for each other.
  [[nodiscard]] memory lacking();
  void give_block(lease block);
  void give_buffer(lease buffer);
  void drop_block();  // unless it holds a payload begun
  // Whether plan() has memory to receive into, without a buffer or a block that is lacking.
  [[nodiscard]] bool has_memory() const { return placed_ || buffer_; }
  [[nodiscard]] bool bulk() const { return predictor_.bulk(); }

  struct receive_plan {
    std::span<iovec> pieces;  // never empty; a copy of them is kept
    bool whole = false;       // nothing can be done before all of it is there
  };
  [[nodiscard]] receive_plan plan();
  void received(std::size_t bytes);

  // In mode multishot: what came into memory of others, in place of plan and received. Until next()
  // says step::bytes again it must stay as it is; before, call keep().
  [[nodiscard]] bool multishot() const { return predictor_.multishot(); }
  void feed(std::span<std::byte> bytes);
  void keep() { carry(); }  // lets go of the memory fed last

  // Gives back all memory but that of a payload begun. Not between plan() and received().
  void release();
  // The peer closed: whether that is in the middle of a frame.
  [[nodiscard]] bool inside_frame() const { return begun_ || pending_.size() > 0; }
  [[nodiscard]] const frame_stats& stats() const { return stats_; }

 private:
  // The payload of the frame at hand, part by part.
  struct payload_part {
    std::byte* at = nullptr;
    std::uint32_t bytes = 0;
    std::uint32_t got = 0;
  };
  step refuse(int code, const char* where);
  step read_head();
  step give_view(const frame_shape& shape);
  void begin_payload(const frame_shape& shape);
  step place_part();
  step fill_part();
  void spill();
  void carry();
  void judge_prediction();
  void want(std::byte* at, std::size_t bytes);
  void plan_head(std::size_t bytes);
  void plan_slots();
  [[nodiscard]] std::uint32_t aligned(std::uint64_t bytes) const;
  [[nodiscard]] bool scatters() const;
  [[nodiscard]] bool prediction_holds() const;
  [[nodiscard]] bool room_for_slot() const;

  // Never change.
  const frame_protocol protocol_;
  const std::uint32_t block_bytes_;
  const std::size_t batch_;
  const std::size_t view_bytes_;
  std::unique_ptr<std::byte[]> view_;   // a view or a head that came in pieces
  std::unique_ptr<std::byte[]> heads_;  // of predicted frames
  // The stream.
  frame_predictor predictor_;
  received_bytes pending_;          // received, not consumed
  std::vector<iovec> vectors_;      // of the plan
  std::size_t carried_ = 0;         // bytes in view_ when the plan was made
  std::size_t wanted_ = 0;          // bytes from the frame's beginning, before it can go on
  std::size_t moved_ = 0;           // payload bytes moved since the last receive
  bool scattering_ = false;         // the last receive was one, not judged yet
  std::vector<std::byte> spilled_;  // pending bytes whose block was needed for something else
  lease block_;                     // for payloads
  std::uint32_t used_ = 0;          // of it
  lease buffer_;                    // for contiguous receives
  // The frame at hand.
  std::array<std::byte, 256> head_;
  frame_shape shape_;
  bool begun_ = false;        // its head is read, its payload goes to blocks
  bool placed_ = false;       // the present part has its place
  std::uint64_t offset_ = 0;  // of the present part
  payload_part part_;
  frame out_;
  error failure_;
  frame_stats stats_;
};

}  // namespace sluice
