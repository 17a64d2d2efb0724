// Many flows write blocks of one large file, in any order: a peer-to-peer client, a block server.
// Blocks that lie side by side in the file become one write, whoever posted them, and what is not
// yet in the file is readable from memory.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "sluice/api.hpp"
#include "sluice/lease.hpp"
#include "sluice/op.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class file;
class room_await;
class write_batcher;

// How blocks get into the file.
enum class block_access : std::uint8_t {
  // O_DIRECT for every block whose offset, length and memory have the alignment that the file asks
  // for, the page cache for the others and where the filesystem knows no O_DIRECT.
  automatic,
  page_cache,
};

// What is left at its default is as the knob of that name says when the writer is made.
struct block_writer_options {
  std::uint64_t merge_bytes = 0;        // sluice.write.merge_bytes; a power of two, 4 to 512 KiB
  std::uint64_t batch_bytes = 0;        // sluice.write.batch_bytes
  std::chrono::microseconds delay{-1};  // sluice.write.delay_us; at most a minute
  block_access access = block_access::automatic;
};

// What a writer did so far; bytes / ops is its mean write.
struct block_writer_stats {
  std::uint64_t blocks = 0;          // posted
  std::uint64_t ops = 0;             // writes that moved everything
  std::uint64_t bytes = 0;           // of these writes
  std::uint64_t direct_bytes = 0;    // of them, around the page cache
  std::uint64_t replaced_bytes = 0;  // posted, and replaced by later ones before they were written
};

// Writes the blocks posted to it. A block waits until sluice.write.merge_bytes of the file, between
// two multiples of it, are there without a gap; or for options.delay; or until somebody flushes;
// or until batch_bytes wait or the arena runs short: then what waits longest goes first.
//
// Of blocks that overlap the one posted later wins, in the file and for readers: a write never
// begins while one of the same merge_bytes is under way, and bytes that were replaced before they
// were written are not written.
//
// Aligned blocks go by O_DIRECT through a descriptor of the writer's own
// (kernel-notes/reopened_file_has_own_flags.md), others through the page cache; a block between
// two that differ from it in this ends the merged write. Both kinds are never under way at once,
// because a page that is read for the one may hold what the other is just writing (open(2)): few
// odd blocks cost little, and where most are odd block_access::page_cache is faster.
//
// Blocks can be verified before they are written, as the body of a transfer is by a body_check: a
// task for each hands it to a worker (engine::run_on_worker, which may run the calls of such a
// check) and posts it when it has passed. Meanwhile others arrive, are checked by other workers
// while they are warm, and are written; what is refused is dropped with its lease and never reaches
// the file. tests/transfer/frame_checking_test.cpp does so with the frames of a frame_receiver.
//
// The first write that fails (ENOSPC, EDQUOT, EIO; EINVAL where a filesystem takes O_DIRECT and
// then wants more alignment than it says) is final for the writer: what was not begun is dropped,
// and post, room, read, flush and commit yield that error from then on. A short write is continued
// and no failure.
//
// Loop thread only. At most one writer per file; reading the file and sending it may go on beside
// it, receiving into it and truncating it may not. The file must outlive it. Reserve the file's
// space first (file::reserve) where its size is known: writes that make a file longer wait for each
// other. The destructor drops what was not begun, gives its blocks back, and lets the writes under
// way end in the background, however long the disk takes; until then another writer, publish, and
// what would have the file alone (receives, copies into it, direct sends) are EBUSY, and
// file::write and truncate are the caller's to keep off. Nobody may be awaiting it.
class SLUICE_API block_writer {
 public:
  // EINVAL for options out of range; EBUSY when a transfer has the file alone, or when there is a
  // writer whose writes are under way; EBADF and EMFILE.
  [[nodiscard]] static task<result<block_writer>> open(file& into,
                                                       block_writer_options options = {});
  block_writer(block_writer&&) noexcept;
  block_writer& operator=(block_writer&&) noexcept;
  ~block_writer();

  // Hands over `bytes`, which lie in `block`, for `offset` of the file. They must not change from
  // now on. Does not wait and begins at most writes; the block goes back when they are stored.
  // EAGAIN: no room, see has_room; EINVAL: bytes outside the block, or a range past 2^63; or why
  // the writer failed. The block is taken only on success.
  result<void> post(lease&& block, std::span<const std::byte> bytes, std::uint64_t offset);

  // Whether a block of any size can be posted now: fewer than sluice.write.pieces_max are kept, and
  // when less than a quarter of the arena is free, less than half of the arena, because the disk
  // may hang and other files go on; true once failed.
  [[nodiscard]] bool has_room() const;
  // Until it can; who else waits may be faster, so: while (!w.has_room()) co_await w.room(), and
  // look at the result. ECANCELED, or why the writer failed.
  [[nodiscard]] room_await room();

  // Bytes at `offset`, fewer only at the end of the file as it will be once all is stored: blocks
  // that are not yet in the file from memory, the newest first, what lies between them from the
  // file. A range posted while a read of the file for it is under way may show the bytes before,
  // the new ones, or both. EBADF for a file not open for reading; why the writer failed.
  [[nodiscard]] task<result<std::size_t>> read(std::span<std::byte> into, std::uint64_t offset);
  // True: all of it was in memory and is in `into` now. False: what `into` holds means nothing.
  [[nodiscard]] bool try_read(std::span<std::byte> into, std::uint64_t offset) const;

  // Until everything posted so far for [offset, offset + length) is stored, that is handed to the
  // kernel in full; what was not yet begun is written at once. What is posted meanwhile may come
  // later. ECANCELED ends the wait only; or why the writer failed.
  [[nodiscard]] task<result<void>> flush(std::uint64_t offset = 0,
                                         std::uint64_t length = op_no_offset);
  // flush, then file::commit: everything posted so far for the range is durable. Those who commit
  // at the same time share the sync. Errors of both.
  [[nodiscard]] task<result<void>> commit(std::uint64_t offset = 0,
                                          std::uint64_t length = op_no_offset);

  [[nodiscard]] block_writer_stats stats() const;

 private:
  struct state;
  explicit block_writer(std::unique_ptr<state> made);
  static task<void> drain(std::unique_ptr<state> left);
  void leave() noexcept;
  std::unique_ptr<state> state_;
};

// What block_writer::room gives to co_await. Allocates nothing.
class [[nodiscard]] SLUICE_API room_await {
 public:
  [[nodiscard]] bool await_ready() const noexcept;
  template <class Promise>
  void await_suspend(std::coroutine_handle<Promise> awaiting) noexcept {
    begin(awaiting, awaiting.promise().task_scope());
  }
  result<void> await_resume() const noexcept;

 private:
  friend class block_writer;
  explicit room_await(write_batcher& on) : on_(&on) {}
  void begin(std::coroutine_handle<> awaiting, scope* task_scope) noexcept;
  op wait_;
  write_batcher* on_;
};

}  // namespace sluice
