// The sender of the case framed: frames over many connections from one thread, as fast as they go.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "pattern.hpp"

namespace bench {

struct frame_order {
  std::uint64_t payload_bytes = 0;  // of each frame: 8 to 1 MiB
  unsigned connections = 1;
  std::uint64_t bytes = 0;     // payload of each connection, a multiple of payload_bytes
  std::uint64_t first_id = 0;  // connection i carries object first_id + i of the pattern
};

struct frame_outcome {
  double seconds = 0;          // from the first byte sent to the last answer
  std::uint64_t receives = 0;  // what the receivers say
  std::uint64_t sum = 0;       // of all connections; 0 unless the receiver checks
};

// Connected sockets for one run; see bench-peers/frame_wire.hpp. No work per byte but the system
// calls': payloads are pieces of the pattern.
class frame_load {
 public:
  static std::expected<frame_load, std::string> connect(const pattern& payload, std::uint16_t port,
                                                        const frame_order& wanted);
  frame_load(frame_load&&) noexcept;
  frame_load& operator=(frame_load&&) noexcept;
  ~frame_load();

  std::expected<frame_outcome, std::string> run();

 private:
  struct state;
  explicit frame_load(std::unique_ptr<state> made);
  std::unique_ptr<state> state_;
};

// What a receiver that checks must answer in sum.
[[nodiscard]] std::uint64_t expected_sum(const pattern& payload, const frame_order& sent);

}  // namespace bench
