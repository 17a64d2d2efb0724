// What one send_from_file works with, whatever its path.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/clock.hpp"
#include "kernel/file_info.hpp"
#include "sluice/transfer.hpp"
#include "storage/file_state.hpp"
#include "storage/look.hpp"

namespace sluice {

class op_pace;
class page_dropper;

struct sending {
  stream& to;
  file_state& from;
  send_options options;
  receipt& so_far;
  std::span<const std::byte> head;  // what of options.head is still to be sent
  std::uint64_t unit = 1;           // of the file offsets read: the alignment for direct, else 1
  cache_policy cache = cache_policy::cached;  // how the pages are kept out of the cache
  page_dropper* dropper = nullptr;            // for drop_behind
  bool zero_copy = false;  // blocks leave without a copy, as long as the kernel does not copy them
  file_info at_start{};
  const char* op = "send";               // what it failed at: of a file that cannot be read, "read"
  const char* where = "send_from_file";  // what its error says: of a refused path the reason

  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::steady_clock::now() - so_far.begun;
  }
  [[nodiscard]] std::uint64_t left() const { return options.length - so_far.bytes; }
  [[nodiscard]] std::uint64_t next_offset() const { return options.offset + so_far.bytes; }
  void count_moved(std::uint64_t bytes) {
    so_far.bytes += bytes;
    if (bytes > 0 && so_far.first_byte.count() == 0) so_far.first_byte = elapsed();
  }
};

// What became of the file since the start, by a look at it: 0, or why the peer must not get all of
// the range, so asked before its last bytes leave: code::end_of_stream, code::file_changed, or an
// errno.
[[nodiscard]] int change_of(const sending& s, const result<file_look>& seen);

// Of a send: the loop makes it at once, by MSG_DONTWAIT.
void do_not_wait(op_request& request);
// Whether it failed for the peer took nothing.
[[nodiscard]] bool was_silent(const op_pace& taker, int failure);

// Sends what is left of the head and then the payload, which lives until then, as one message. 0,
// or why it ended; counts no bytes of the payload.
[[nodiscard]] task<int> send_message(sending& s, std::span<const std::byte> payload);

// Sends the head and then the pages of the file themselves. 0, or why it ended; so_far says how far
// it came. EOPNOTSUPP before the first byte of the file: this filesystem or socket cannot splice,
// and the head is still whole in `head`, or gone.
[[nodiscard]] task<int> send_spliced(sending& s);

}  // namespace sluice
