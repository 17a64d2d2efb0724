// What a test orders of the filesystem that fails on order, and what that one counts: memory that
// both processes see, so that an order is there as soon as it is written and no request is needed
// to give it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace support {

// The requests that can be told to fail or to hang. Each kind is counted by itself.
enum class request_kind : std::uint8_t {
  write,
  sync,            // of a file: fsync and fdatasync
  sync_directory,  // fsync of a directory
  allocate,        // fallocate
  truncate,        // ftruncate to any size
  create,
  rename,
  attributes,  // stat and looking up a name; asked each time only with keep_no_attributes
  read,        // of a page that the kernel does not keep, and every direct one
  filesystem,  // statfs
};
inline constexpr std::size_t request_kinds = 10;

// Ordinals count from 1 since the last reset; 0 is "never".
struct request_orders {
  std::atomic<std::uint64_t> seen{0};        // written by the filesystem
  std::atomic<std::uint64_t> fail_first{0};  // these fail, to the last of them inclusive
  std::atomic<std::uint64_t> fail_last{0};
  std::atomic<std::int32_t> error{0};     // with this errno, and nothing is carried out
  std::atomic<std::uint64_t> stop_at{0};  // the filesystem stops itself (SIGSTOP) before this one
};

struct fault_orders {
  std::array<request_orders, request_kinds> kinds;

  // Every short_every-th write takes only short_bytes, when it is longer; 0 is no short writes.
  std::atomic<std::uint64_t> short_every{0};
  std::atomic<std::uint32_t> short_bytes{0};
  // The same of reads, for a filesystem without page cache: to the page cache a short read is the
  // end of the file, and what a direct one leaves open is read by the page cache.
  std::atomic<std::uint64_t> short_reads_every{0};
  std::atomic<std::uint32_t> short_read_bytes{0};
  // A write on a descriptor with O_DIRECT must be a multiple of this in offset and length, or it is
  // EINVAL as on a disk; 1 takes anything, and so does 0: memory of zeroes orders nothing.
  std::atomic<std::uint32_t> direct_unit{1};

  // Every write is answered so much later: a slow disk.
  std::atomic<std::uint32_t> write_delay_us{0};

  // Written by the filesystem.
  std::atomic<bool> mounted{false};
  std::atomic<std::uint64_t> taken_bytes{0};  // by writes
  std::atomic<std::uint64_t> shortened{0};    // writes cut short
  std::atomic<std::uint64_t> shortened_reads{0};
  std::atomic<std::uint64_t> direct_writes{0};  // on a descriptor with O_DIRECT
  std::atomic<std::uint64_t> misaligned{0};     // of them, refused

  request_orders& of(request_kind kind) { return kinds[static_cast<std::size_t>(kind)]; }

  void fail(request_kind kind, std::uint64_t ordinal, int error) {
    fail(kind, ordinal, ordinal, error);
  }
  void fail(request_kind kind, std::uint64_t first, std::uint64_t last, int error) {
    request_orders& o = of(kind);
    o.error = error;
    o.fail_last = last;
    o.fail_first = first;
  }

  // No order is left, and every count begins again. Not while requests are under way.
  void reset() {
    for (request_orders& o : kinds) {
      o.seen = o.fail_first = o.fail_last = o.stop_at = 0;
      o.error = 0;
    }
    short_every = 0;
    short_bytes = 0;
    short_reads_every = 0;
    short_read_bytes = 0;
    direct_unit = 1;
    write_delay_us = 0;
    taken_bytes = 0;
    shortened = shortened_reads = direct_writes = misaligned = 0;
  }
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "two processes share it");

}  // namespace support
