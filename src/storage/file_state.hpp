// What an open file is to the engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/engine_core.hpp"
#include "kernel/fd.hpp"
#include "kernel/file_info.hpp"
#include "sluice/file.hpp"

namespace sluice {

class write_batcher;

struct file_state {
  file_state(engine_core& on, kernel::unique_fd opened) : core(on), fd(std::move(opened)) {}
  file_state(const file_state&) = delete;
  file_state& operator=(const file_state&) = delete;
  ~file_state();  // closes in the background

  // What is known of its filesystem from now on.
  void lies_on(kernel::filesystem_kind on);
  // By create(), and not yet published: nobody else has it, so nobody else's bytes can be cut off.
  [[nodiscard]] bool made_here() const { return unnamed || !temporary_name.empty(); }

  engine_core& core;
  kernel::unique_fd fd;  // one descriptor from first write to sync: a later one may miss an error
  bool writable = false;
  bool direct = false;  // O_DIRECT is on: it came so, or by set_direct below
  // Who carries out reads and writes by O_DIRECT, and reads through the page cache. While the
  // filesystem is not known, who is right everywhere.
  op_route direct_route = op_route::worker;
  op_route read_route = op_route::ring_thread;
  bool unnamed = false;          // O_TMPFILE, until published
  kernel::unique_fd directory;   // of the temporary name
  std::string temporary_name;    // while it has one
  bool durability_lost = false;  // a sync failed: final
  int transfers = 0;             // that share it now; -1: one that has it alone
  bool publishing = false;       // one of those that share it is a publish
  // Of the block writer whose writes may be under way, be it gone or not: what it still writes must
  // not land on what came after it.
  std::weak_ptr<const write_batcher> writer;
};

// A transfer's hold on its file. O_DIRECT is a flag of the descriptor, so one that may switch it,
// or that cuts the file, has it alone; those that only read through the page cache share it, and a
// publish does when nothing is still to be written.
class transfer_claim {
 public:
  enum class hold : std::uint8_t { alone, shared, publish };
  transfer_claim(file_state& file, hold wanted);
  transfer_claim(const transfer_claim&) = delete;
  transfer_claim& operator=(const transfer_claim&) = delete;
  ~transfer_claim() { release(); }

  explicit operator bool() const { return held_ != nullptr; }  // false: EBUSY
  void release();

 private:
  file_state* held_ = nullptr;
  hold as_;
};

[[nodiscard]] inline file_info info_of(const kernel::inode_info& inode) {
  return {inode.bytes, inode.inode, inode.modified_ns};
}

// Switches O_DIRECT of the file's descriptor: 0 or an errno (EINVAL where the filesystem cannot).
[[nodiscard]] int set_direct(file_state& state, bool on);

// The most that the loop itself writes at a time: of more others would have to wait for too long.
inline constexpr std::uint64_t written_by_loop_max = 512 << 10;

// Who carries out reads and writes by O_DIRECT: on FUSE a worker, because a ring goes on behind a
// short one in the wrong place (kernel-notes/ring_repeats_short_io_on_fuse.md).
[[nodiscard]] op_route direct_route_of(kernel::filesystem_kind on);

// Who carries out a buffered write of `bytes`. One that the ring had tried before it went to a
// thread might wait for one of another file, stuck on another disk
// (kernel-notes/stuck_write_holds_up_other_files.md). One whose pages have no disk behind them
// (`in_memory`) the loop copies, for another thread would fetch the bytes from the other
// processor's cache; it waits where receiving into memory does, for pages that are in swap or to be
// reclaimed, and for somebody else's truncation or reservation of the same file.
[[nodiscard]] constexpr op_route write_route(bool in_memory, std::uint64_t bytes) {
  return in_memory && bytes <= written_by_loop_max ? op_route::loop_thread : op_route::ring_thread;
}
[[nodiscard]] inline op_route write_route(const file_state& state, bool in_memory,
                                          std::uint64_t bytes) {
  return state.direct ? state.direct_route : write_route(in_memory, bytes);
}

// A page-cache write copies while the block is warm: few behind the receive keep it so. Those of
// one file wait for each other (the inode's lock), each in a thread of its own.
inline constexpr std::size_t copy_depth_max = 2;

// Who carries out a read through the page cache: the ring tries it in the loop's own thread, where
// FUSE may ask its daemon first and wait (kernel-notes/ring_reads_wait_on_fuse.md).
[[nodiscard]] op_route read_route_of(kernel::filesystem_kind on);

// How many writes of one file may be under way by that route where `depth` are wanted: where each
// has a worker a quarter of them, or two of a few, so that a disk that hangs leaves some for
// others.
[[nodiscard]] std::size_t depth_within_workers(engine_core& core, op_route route,
                                               std::size_t depth);

// How many writes of one transfer into the file may be under way where `depth` are wanted.
[[nodiscard]] std::size_t write_depth(const file_state& state, std::size_t depth);

// Where an op on the file begins: kind, descriptor and route set.
[[nodiscard]] op_request on_file(const file_state& state, op_kind kind);

}  // namespace sluice
