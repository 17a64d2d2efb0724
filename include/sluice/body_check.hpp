// A look at the bytes of a body before they are written.
#pragma once

#include <cstddef>
#include <span>

#include "sluice/api.hpp"
#include "sluice/result.hpp"

namespace sluice {

// Judges the body of one receive_to_file or span_writer: a checksum, a scanner, a format. A block
// is given to it while the next one is received, and is written only after it has passed; the last
// one only after the whole body has. What was refused never reaches the file. Nothing more of the
// body is written after a refusal; what had passed before it may be in the file, which is then not
// to be published.
//
// Both calls run on worker threads of the engine: one at a time and in the order of the body, those
// of other transfers at the same time. A slow one holds a thread (sluice.pool.threads) and lets the
// receive go on for sluice.receive.depth blocks before the peer has to wait; no timeout ends it.
// They must not touch the engine. A refusal is code::refused_by_check, or an error of the check's
// own: the transfer ends with it. The check must live until the transfer has ended, and is not
// called after that.
class SLUICE_API body_check {
 public:
  body_check() = default;
  body_check(const body_check&) = delete;
  body_check& operator=(const body_check&) = delete;
  virtual ~body_check() = default;

  // The next bytes of the body and nothing else: never empty, no padding. They are read where they
  // lie and are gone after the call.
  [[nodiscard]] virtual result<void> update(std::span<const std::byte> bytes) noexcept = 0;
  // The body has been seen to its end, which an empty one has too. Not called for a body that does
  // not arrive whole.
  [[nodiscard]] virtual result<void> finish() noexcept = 0;
};

}  // namespace sluice
