// One write of many pieces of a file: which of them it takes, and what is asked of the kernel.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel/file_info.hpp"
#include "sluice/op.hpp"
#include "storage/range_map.hpp"

namespace sluice {

// Two descriptors of one file, which stay open as long as a write is under way.
struct write_target {
  int cached = -1;  // through the page cache
  int direct = -1;  // by O_DIRECT; -1: never
  kernel::direct_alignment alignment;
  bool in_memory = false;                       // there is no disk behind the file
  op_route direct_route = op_route::automatic;  // see direct_route_of
};

enum class write_access : std::uint8_t { cached, direct };

// Direct where the target can be and the piece is aligned, in the file and in memory.
[[nodiscard]] write_access access_of(const write_piece& p, const write_target& target);

// A run of pieces: adjacent in the file, of one access, and as many vectors as a call takes.
// Adjacent memory shares a vector. Reused, it keeps its memory.
class merged_write {
 public:
  merged_write();

  // Takes the run that `begin` begins in its map; the first piece behind it, null: none. They stay
  // in the map, and where they are, until they are written.
  [[nodiscard]] write_piece* take(write_piece& begin, range_map& of, const write_target& target);
  // Points into this, which stays until it is carried out.
  [[nodiscard]] op_request request(const write_target& target);

  [[nodiscard]] write_piece& first() const { return *first_; }
  [[nodiscard]] std::size_t pieces() const { return pieces_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] write_access access() const { return access_; }
  [[nodiscard]] bool has_vectors() const { return parts_.size() > 1; }
  [[nodiscard]] bool is_fixed() const { return buffer_index_ >= 0; }

 private:
  [[nodiscard]] bool add(const write_piece& p);

  write_piece* first_ = nullptr;
  std::size_t pieces_ = 0;
  std::uint64_t bytes_ = 0;
  write_access access_ = write_access::cached;
  std::int32_t buffer_index_ = -1;  // the registered buffer that all pieces lie in; -1: none
  std::vector<iovec> parts_;
};

}  // namespace sluice
