// A receive that stays with the kernel between the calls of its user (multishot), and what it has
// brought.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/engine_core.hpp"
#include "core/waiter.hpp"
#include "memory/provided_buffers.hpp"

namespace sluice {

// Loop thread only. Outlives its owner until the kernel has let go of it.
class armed_receive {
 public:
  struct end {
    void operator()(armed_receive* of) const { of->drop(); }
  };
  using owner = std::unique_ptr<armed_receive, end>;
  // The engine must have provided buffers.
  [[nodiscard]] static owner make(engine_core& on);

  // The next bytes of the stream, writable and valid until the next call; empty while nothing is
  // there.
  [[nodiscard]] std::span<std::byte> next();
  // How it ended, told once, when all that it brought was taken: 0 the stream did, else an errno
  // and a count that means nothing. ENOBUFS: there were bytes and no buffer for them.
  [[nodiscard]] std::optional<result<std::size_t>> ended();
  // Posts it, unless it is posted. An errno, 0 when done; see provided_buffers::join.
  [[nodiscard]] int arm(int fd);

  // Waits for more bytes or the end; zero: no limit. Until calm() it lets come whatever comes,
  // otherwise a fair share of the buffers and not much more.
  [[nodiscard]] waiter::wait_await heard_within(std::chrono::nanoseconds limit) {
    hungry_ = true;
    return news_.notified_within(limit);
  }
  [[nodiscard]] bool timed_out() const { return news_.timed_out(); }
  void calm() { hungry_ = false; }

 private:
  explicit armed_receive(engine_core& on);
  ~armed_receive() = default;
  void drop();
  void take_note(std::uint32_t bytes, std::uint16_t first_buffer);
  void take_end();

  engine_core& core_;
  provided_buffers& buffers_;
  op receive_;
  waiter news_;
  buffer_chain came_;
  bool reading_ = false;  // the front of came_ is what next() gave last
  bool joined_ = false;
  bool hungry_ = false;  // somebody waits, or was told and not run yet
  bool has_ended_ = false;
  bool dropped_ = false;
};

}  // namespace sluice
