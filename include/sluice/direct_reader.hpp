// Reads ranges of a file around the page cache, wherever they begin and end: a server of blocks
// whose files do not fit into memory and are asked for in no order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "sluice/api.hpp"
#include "sluice/lease.hpp"
#include "sluice/result.hpp"
#include "sluice/task.hpp"

namespace sluice {

class file;

// Has a descriptor of its own for O_DIRECT (kernel-notes/reopened_file_has_own_flags.md), so that
// transfers, a block_writer and reads by the page cache go on beside it, and the file may be closed
// before it. What they have stored is read; what they are just storing may be read as it was, as it
// will be, or a part of each. Pages of the range that the page cache has unwritten are written
// first (open(2), O_DIRECT).
//
// Loop thread only. Must not outlive the engine. Move-only; the destructor closes in the
// background, and nobody may be awaiting it then.
class SLUICE_API direct_reader {
 public:
  // EOPNOTSUPP where the filesystem knows no O_DIRECT or copies all the same (tmpfs), or without
  // /proc; EBADF for a file that is closed or not open for reading; EACCES, when it may not be
  // opened again; EMFILE, ENFILE; ECANCELED.
  [[nodiscard]] static task<result<direct_reader>> open(const file& of);
  direct_reader(direct_reader&&) noexcept;
  direct_reader& operator=(direct_reader&&) noexcept;
  ~direct_reader();

  // Offsets and lengths of the reads are multiples of it: a sector or more, a power of two.
  [[nodiscard]] std::uint32_t alignment_bytes() const;
  // How much memory a read of that range takes: it is widened to multiples of alignment_bytes().
  [[nodiscard]] std::uint64_t room_bytes(std::uint64_t offset, std::uint64_t bytes) const;

  // Reads [offset, offset + bytes) into `into`, a block of the pool or a part of one that begins on
  // a page, and yields where in it the range lies: shorter only at the end of the file. What lies
  // around it in `into` means nothing. The lease must stay until then. EINVAL for a range larger
  // than `into` has room for, and for memory that is not aligned; EIO, also where the filesystem
  // gives less than a sector inside the file, again and again; ECANCELED.
  [[nodiscard]] task<result<std::span<std::byte>>> read(const lease& into, std::uint64_t offset,
                                                        std::uint64_t bytes);

 private:
  struct state;
  explicit direct_reader(std::unique_ptr<state> made);
  [[nodiscard]] task<result<std::uint64_t>> size_now() const;
  std::unique_ptr<state> state_;
};

}  // namespace sluice
