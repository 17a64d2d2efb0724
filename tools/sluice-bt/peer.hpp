// One connection to another peer: what it has, what it was asked for, what it asks for.
#pragma once

#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bitfield.hpp"
#include "pace.hpp"
#include "picker.hpp"
#include "sluice/frames.hpp"
#include "sluice/result.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"
#include "wire.hpp"

namespace bt {

class session;

enum class who_called : std::uint8_t { we, they };

// Why a connection is over.
struct peer_end {
  std::string why;
  bool greeted = false;   // the handshakes were exchanged
  bool hopeless = false;  // it would end the same way again
  std::uint64_t received_bytes = 0;
};

// Loop thread only. Kept alive by the flows that run for it.
class peer : public std::enable_shared_from_this<peer> {
 public:
  static constexpr std::size_t requests_max = 2000;  // of the peer's, waiting to be answered

  peer(session& home, sluice::stream stream, std::string name, source_id id);

  // From the handshake to the end of the connection. `self` is this peer.
  [[nodiscard]] static sluice::task<peer_end> run(std::shared_ptr<peer> self, who_called first);

  // Tells the peer that the piece can be had here now.
  void announce(std::uint32_t piece);
  // Asks for as many blocks as the pace allows.
  void ask();
  // What was asked for has come from somebody else.
  void take_back(const block_ref& block);
  // Another one is to send the piece: false when that cannot be now, else it was taken back whole.
  bool lose(std::uint32_t piece);
  // Ends the connection, with this reason unless it has one already; run() returns soon.
  void close(std::string why, bool hopeless);

  // Nothing comes from it because of our disk or our memory.
  [[nodiscard]] bool waits_for_us() const { return storing_ || lacks_memory_; }
  [[nodiscard]] source_id id() const { return id_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const sluice::frame_stats& frames() const { return frames_; }

 private:
  using clock = request_pace::clock;
  struct asked {
    block_ref block;
    clock::time_point when;
  };
  struct wanted {  // a request of the peer
    std::uint32_t piece = 0;
    std::uint32_t begin = 0;
    std::uint32_t bytes = 0;
    bool operator==(const wanted&) const = default;
  };
  struct answer;

  sluice::task<std::optional<peer_end>> greet(who_called first);
  void introduce();
  sluice::task<void> read_all();
  void tick();
  void pardon();
  sluice::task<void> take(sluice::frame f);
  void take_message(const message& m);
  void take_bitfield(sluice::frame& f);
  sluice::task<void> take_block(sluice::frame f, const message& m);
  void count_unwanted(std::size_t payload_bytes);
  void take_have(std::uint32_t piece);
  void take_request(const message& m);
  void choked();
  void become_interested();
  bool take_over();
  void leave();

  void flush();
  [[nodiscard]] std::chrono::seconds send_time() const;
  static sluice::task<void> send_all(std::shared_ptr<peer> self);
  sluice::task<sluice::result<void>> send_patiently(msghdr& message);
  sluice::task<sluice::result<void>> send_answers();
  void choose_answers(answer& of);
  sluice::task<sluice::result<void>> read_answers(answer& of);
  sluice::task<void> name_unreadable(const answer& of, std::size_t first, std::size_t past,
                                     sluice::error why);

  session& home_;
  sluice::stream stream_;
  const std::string name_;
  const source_id id_;
  wire_limits limits_;
  peer_end end_;
  bool closing_ = false;

  // What the peer has and lets us have.
  bitfield has_;
  bool has_bitfield_ = false;  // it came, or may no longer come
  std::vector<std::byte> arriving_bitfield_;
  bool chokes_us_ = true;
  bool we_are_interested_ = false;
  std::deque<asked> asked_;
  request_pace pace_;
  clock::time_point last_heard_;
  clock::time_point last_block_;
  clock::time_point last_tick_ = clock::now();
  std::uint64_t unwanted_bytes_ = 0;
  std::uint64_t taken_back_bytes_ = 0;  // may still come: it had not heard that nobody wants them
  bool storing_ = false;                // a block of its is on the way to the store
  bool lacks_memory_ = false;           // it may have sent something, there is no room for it

  // What we let it have, and send.
  bool unchoked_ = false;
  std::deque<wanted> wanted_;
  std::vector<std::byte> out_;       // messages to be sent
  std::vector<std::byte> outgoing_;  // those being sent
  bool sending_ = false;
  clock::time_point last_sent_;
  sluice::frame_stats frames_;
};

}  // namespace bt
