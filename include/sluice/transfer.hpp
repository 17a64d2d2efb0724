// Transfers: the move of a byte range between a stream and a file, and the receipt that says how it
// went.
//
// One transfer at a time has a file object: another is refused with EBUSY, a span_writer included
// until it has finished, and so is a publish. Only sends that cannot be direct share one: below
// sluice.send.direct_min_bytes, by another forced path, or with a cache policy that says how. While
// a transfer has the file, file::read and file::write of it may meet O_DIRECT: EINVAL.
//
// Each takes a `deadline` in its options: how long the whole of it may last, from when it is
// awaited. Zero is no limit, and what is below zero has passed already. One that has not ended by
// then is cancelled and says ETIMEDOUT; as after any cancel, what the kernel is still doing for it
// is waited for, a disk that hangs included.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "sluice/api.hpp"
#include "sluice/body_check.hpp"
#include "sluice/file.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/stream.hpp"
#include "sluice/task.hpp"

namespace sluice {

// How a transfer is carried out (the planner's choice).
enum class path : std::uint8_t {
  direct,           // aligned leases, O_DIRECT: one CPU copy
  copy,             // through the page cache and leases: two CPU copies
  splice,           // through the page cache, past our memory: one CPU copy in, none out
  mapped,           // received into the mapped file: one CPU copy, and a page fault per page
  reflink,          // file to file: the filesystem shares the blocks, no CPU copy
  copy_file_range,  // file to file: the kernel copies, past our memory: at most one CPU copy
};
[[nodiscard]] SLUICE_API const char* name(path p);

// What a transfer leaves in the page cache.
enum class cache_policy : std::uint8_t {
  automatic,    // whatever the path that the planner chooses leaves there
  cached,       // the pages stay: no path around the page cache
  direct,       // no page is made: O_DIRECT, or the transfer is refused
  drop_behind,  // pages are written back and dropped behind the cursor, by worker threads
  dontcache,    // the kernel drops them itself (RWF_DONTCACHE, Linux 6.14); else as drop_behind
};

// What a transfer reports when it ends, well or not.
struct receipt {
  sluice::path path = sluice::path::copy;
  const char* reason = "";         // why this path; a string literal
  std::uint64_t bytes = 0;         // moved in full
  std::uint32_t copies = 0;        // CPU copies per byte of the bulk, the kernel's included
  std::uint64_t copied_bytes = 0;  // memcpy'd by sluice itself: bytes that came with a head
  std::uint64_t ops = 0;           // kernel operations, each time that one was begun or continued
  std::uint64_t short_ops = 0;     // of them, those that moved a part and were continued
  std::chrono::steady_clock::time_point
      begun{};  // when it was awaited; of a span_writer, when that was made
  // From `begun`: when the first operation that moved something had ended. One into or out of a
  // block ends with the whole of it.
  std::chrono::nanoseconds first_byte{};
  std::chrono::nanoseconds
      last_byte{};                    // until the last byte was received, or handed to the socket
  std::chrono::nanoseconds stored{};  // until the last write had completed
  // Until the file::commit, or the publish, that was given this receipt had succeeded; zero before.
  std::chrono::nanoseconds durable{};
  std::uint64_t zero_copy_bytes = 0;  // sent without any copy, as the kernel reports it
  // Of `bytes`, those that went another way than `path`: edges of a direct receive, through the
  // page cache; the prefix of a spliced or mapped receive, and what a spliced relay was handed;
  // blocks that a relay copied while it had no pipe; what a file copy could not do as the rest; the
  // end of a spliced send, from memory, which is looked at once more before it leaves.
  std::uint64_t misrouted_bytes = 0;
  std::uint64_t faults = 0;  // path mapped: page faults of the loop's thread meanwhile
};

struct receive_options {
  std::uint64_t length = 0;             // of the range, `prefix` included
  std::uint64_t offset = 0;             // in the file
  std::span<const std::byte> prefix{};  // bytes that arrived with the head; must live until the end
  body_check* check = nullptr;          // sees every byte before it is written; rules out the paths
                                        // splice and mapped
  cache_policy cache = cache_policy::automatic;
  std::chrono::nanoseconds deadline{};  // see above
};

// Receives exactly `length` bytes into a file. The range may begin and end anywhere; several file
// objects of one file may receive at a time as long as their ranges do not overlap and none has a
// check. Reserves the
// space first, so that ENOSPC and EDQUOT come before the first byte. On failure nothing may be
// published: code::end_of_stream, code::too_slow (below sluice.receive.rate_min_bytes), ETIMEDOUT
// (silent for sluice.receive.timeout_ms), ENOSPC, EDQUOT, EIO, ECONNRESET, ECANCELED,
// code::path_unavailable (a forced path that cannot work here), ENOBUFS (no block or pipe became
// free in twice that time), EMFILE and ENFILE (the same, and for want of a descriptor no further
// pipe could be made), code::refused_by_check or whatever else the check says; EBADF when either is
// closed. While others wait for blocks a peer must fill each of its own within
// sluice.receive.timeout_ms, or is too slow. Path splice leaves the socket non-blocking, and is
// refused, be it in the middle, where the peer sends urgent data
// (kernel-notes/splice_stops_at_urgent_data.md).
// `progress`, when given, is the receipt so far, also after a failure; its `bytes` are those
// received, a refused block included.
[[nodiscard]] SLUICE_API task<result<receipt>> receive_to_file(stream& from, file& into,
                                                               receive_options options,
                                                               receipt* progress = nullptr);

// Where a part of a body lies in it. A check judges the whole before the last part, which may be
// empty, is written; without a check it makes no difference.
enum class body_part : std::uint8_t { inner, last };

// Writes spans of leased blocks to a file, one after the other, behind the caller's next receive:
// the body of a chunked upload, whose pieces lie between chunk heads, goes to the page cache
// without a memcpy. Never another way: when sluice.receive.path forces one, direct, splice or
// mapped, every call is refused with code::path_unavailable. With a check one write, and no other
// behind it, must say body_part::last.
class SLUICE_API span_writer {
 public:
  span_writer(engine& on, file& into, body_check* check = nullptr);
  span_writer(const span_writer&) = delete;
  span_writer& operator=(const span_writer&) = delete;
  ~span_writer();  // everything begun must have been finished

  // Writes `spans`, which lie in `block` or in memory that lives until finish(). Waits only while
  // sluice.receive.depth writes are under way. Errors as receive_to_file, EINVAL after the last
  // part; after an error only finish() makes sense.
  [[nodiscard]] task<result<void>> write(lease block, std::span<const iovec> spans,
                                         body_part part = body_part::inner);
  // Waits for every check and write begun. Must be awaited before destruction, after an error too.
  // EINVAL when there is a check and nobody said which part was the last: it has given no verdict.
  // `progress`, when given, is the receipt, also after a failure.
  [[nodiscard]] task<result<receipt>> finish(receipt* progress = nullptr);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

// Whether anybody writes to a file, or cuts it, from the moment a send of it begins until the peer
// has the last byte. A spliced page is the file's own: what is written to it later is what the peer
// gets (kernel-notes/spliced_page_shows_later_writes.md).
enum class file_content : std::uint8_t {
  may_change,  // sent from a copy, taken page by page; bytes of before and after a write may mix
  unchanging,  // written once and then only replaced as a whole: publish() makes such files. A
               // promise that is looked after: see code::file_changed below
};

struct send_options {
  std::uint64_t length = 0;           // of the range
  std::uint64_t offset = 0;           // in the file
  std::span<const std::byte> head{};  // sent before the payload, in one packet with its beginning
  file_content content = file_content::may_change;  // unchanging lets path auto splice
  cache_policy cache = cache_policy::automatic;     // dropped pages are dropped for others too
  // What the file was when the caller looked at it (file::look, directory::open_file), to say its
  // size or its entity tag to the peer: one that is called unchanging is then looked after from
  // that moment on. None: from the start of the send.
  std::optional<file_info> as_seen = std::nullopt;
  std::chrono::nanoseconds deadline{};  // see above
};

// Sends exactly `length` bytes of the file after `head`. A file that shrinks meanwhile gives
// code::end_of_stream, and one called unchanging whose modification time or size is another than at
// the start, or `as_seen`, gives code::file_changed, whatever the path: its last bytes, 2 KiB at
// most when spliced and else a block, are then not sent, so the peer misses some once the stream is
// closed, as it must be. Not seen are a change in the same tick of the kernel's clock as one before
// it (kernel-notes/modification_time_ticks.md), a write call that began before the send, stores
// through a mapping, a time that is set back, a change after the last bytes were sent, which shows
// in spliced pages only, and of a spliced file that may change a cut that is grown over. The last
// bytes of a splice come from memory. Other errors: EPIPE, ECONNRESET, ETIMEDOUT (nothing taken for
// sluice.send.timeout_ms), code::too_slow, EIO, ECANCELED, ENOBUFS (no block or pipe became free in
// twice that time), EMFILE and ENFILE (the same, and for want of a descriptor no further pipe could
// be made), code::path_unavailable (a forced path that cannot work here), EBADF (either is
// closed). While others wait for blocks a peer must take each of its own within
// sluice.send.timeout_ms, or is too slow. The socket is non-blocking from its first splice on.
// Blocks sent without a copy (sluice.send.zero_copy) are waited for until the peer's kernel has
// acknowledged them; a transfer that is cancelled, or fails because of its peer, before that resets
// the connection, or its memory would stay with the kernel. `progress`, when given, is the receipt
// so far, also after a failure; its `first_byte` is zero as long as nothing was sent, of the head
// neither.
[[nodiscard]] SLUICE_API task<result<receipt>> send_from_file(stream& to, file& from,
                                                              send_options options,
                                                              receipt* progress = nullptr);

}  // namespace sluice
