// What one receive_to_file works with, whatever its path.
#pragma once

#include <chrono>
#include <cstdint>

#include "kernel/clock.hpp"
#include "sluice/transfer.hpp"
#include "storage/file_state.hpp"
#include "transfer/range_parts.hpp"

namespace sluice {

class page_dropper;
class op_pace;

struct receiving {
  stream& from;
  file_state& into;
  receive_options options;
  receipt& so_far;
  std::uint64_t unit = 1;  // of the file offsets written: the alignment for direct, else 1
  range_parts parts{};     // for direct; else all is body
  cache_policy cache = cache_policy::cached;  // how the pages are kept out of the cache
  page_dropper* dropper = nullptr;            // for drop_behind
  const char* where = "receive_to_file";      // what its error says: of a refused path the reason
  // Of options.length, the prefix included. By splice only what the file has: bytes that get lost
  // in a pipe were never anybody's.
  std::uint64_t received = 0;

  [[nodiscard]] bool direct() const { return so_far.path == path::direct; }
  [[nodiscard]] std::chrono::nanoseconds elapsed() const {
    return std::chrono::steady_clock::now() - so_far.begun;
  }
  [[nodiscard]] std::uint64_t left() const { return options.length - received; }
  [[nodiscard]] std::uint64_t next_offset() const { return options.offset + received; }
};

// What a stream that has ended before the body has is: code::end_of_stream, or ECONNRESET.
[[nodiscard]] int end_of(const stream& from);

// A receive of the next bytes of the body, all of them.
[[nodiscard]] op_request receive_request(const receiving& r, std::byte* into, std::size_t bytes);
// Counts a receive that has ended, and says what it means for the transfer: 0 go on, else why
// it ends. `filled`: it moved all that was asked for. Who holds a block that others wait for has
// less time.
enum class holding : std::uint8_t { nothing, block };
[[nodiscard]] int received_verdict(receiving& r, op_pace& sender, const result<std::size_t>& got,
                                   const op_await& recv, bool filled, holding held);

// Writes the prefix through the page cache. 0, or why it failed.
[[nodiscard]] task<int> write_prefix(receiving& r);

// Writes the prefix, then receives the rest into the mapped file, whose space is reserved. 0, or
// why it ended; EIO where a page could not be had.
[[nodiscard]] task<int> receive_mapped(receiving& r);

// Writes the prefix, then splices the rest. 0, or why it ended; `received` is exact either way.
[[nodiscard]] task<int> receive_spliced(receiving& r);

}  // namespace sluice
