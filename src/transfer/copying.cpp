// File to file, in steps, every one of them an operation:
//   sharing   blocks, a long piece at a time, holes and all (FICLONERANGE)
//   appending many pieces of the source by one call, where the target has nothing behind the cursor
// and what these cannot do, piece by piece of the source, data and holes in turn:
//   finding   how far the data, or the hole, at the cursor reaches
//   punching  of a hole, what the target has there; behind the target's end nothing is to be done
//   ranging   of data, by copy_file_range(2), which fills holes
//             (kernel-notes/copy_file_range_fills_holes.md): of those it is given only what a
//             target that cannot be punched must have instead
//   reading, writing   of both, a block to and fro, where the kernel cannot copy between the two
//   growing   at the end, when the last piece was a hole
// One call never moves so much that a cancel, which cannot interrupt it, would wait for long.
#include "transfer/copying.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "ops/table.hpp"
#include "transfer/op_count.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

// Of blocks shared or punched by one call: what they cost goes by extents, not by bytes.
constexpr std::uint64_t extent_bytes_max = std::uint64_t{1} << 30;
// Of nearly every filesystem that shares blocks; one that has larger ones says EINVAL.
constexpr std::uint64_t shared_block_bytes = 4096;
// Of one call: a hand-over to a thread costs more than a small piece.
constexpr std::uint32_t appended_pieces_max = 64;

constexpr copy_obstacle not_shared{"auto: the blocks cannot be shared",
                                   "the blocks cannot be shared"};
constexpr copy_obstacle part_of_block{"auto: shared, but for a part of a block",
                                      "a part of a block cannot be shared"};
constexpr copy_obstacle not_by_kernel{"auto: the kernel cannot copy between these two",
                                      "the kernel cannot copy between these two"};

std::uint32_t copies_of(path way) {
  return way == path::reflink ? 0 : way == path::copy_file_range ? 1 : 2;
}

// Errors by which the kernel says "not between these two files": nothing was changed.
bool says_cannot(int failure) {
  return failure == EOPNOTSUPP || failure == ENOSYS || failure == ENOTTY || failure == EXDEV ||
         failure == EINVAL;
}

}  // namespace

void copying::take_path(path way, const char* reason) {
  way_ = way;
  so_far_.reason = reason;
  if (moved_ > 0) return;
  so_far_.path = way;
  so_far_.copies = copies_of(way);
}

void copying::begin(const plan& chosen) {
  take_path(chosen.chosen, chosen.reason);
  go_on();
}

// As the kernel remembers it, which this machine's own writes keep right. Nothing where the file
// cannot be asked: the copy has ended then.
std::optional<std::uint64_t> copying::size_of(const file_state& file) {
  const result<kernel::inode_info> inode = kernel::inode_of(file.fd.get());
  if (inode) return inode->bytes;
  end(inode.error().code);
  return std::nullopt;
}

// The next step from the cursor, with no piece known.
void copying::go_on() {
  if (options_.length == 0) {
    step_ = step::ended;
  } else if (left() == 0) {
    if (const auto size = size_of(into_)) step_ = *size < target() ? step::growing : step::ended;
  } else if (way_ == path::reflink) {
    share_next();
  } else {
    find_next();
  }
}

void copying::find_next() {
  const auto size = size_of(into_);
  if (!size) return;
  if (way_ == path::copy_file_range && *size <= target()) {
    appended_ = {.source = from_.fd.get(),
                 .target = into_.fd.get(),
                 .source_offset = source(),
                 .target_offset = target(),
                 .bytes = left(),
                 .data_max = knobs().chunk_bytes,
                 .pieces_max = appended_pieces_max};
    step_ = step::appending;
  } else {
    piece_ = {.fd = from_.fd.get(), .offset = source()};
    step_ = step::finding;
  }
}

// To the next way. A forced one is not replaced.
void copying::fall_back(const copy_obstacle& met) {
  if (is_forced_) {
    so_far_.reason = refusal_ = met.refused;
    return end(code::path_unavailable);
  }
  if (way_ == path::copy_file_range) {
    take_path(path::copy, met.avoided);
  } else if (into_.core.tried().copy_file_range) {
    take_path(path::copy_file_range, met.avoided);
  } else {
    take_path(path::copy, "copy_file_range is not allowed here");
  }
  go_on();
}

// Whole blocks, or up to the end of the source where that will be the target's too: only there the
// kernel shares a part of a block.
void copying::share_next() {
  const auto size = size_of(from_);
  const auto target_size = size ? size_of(into_) : std::nullopt;
  if (!target_size) return;
  if (*size <= source()) return end(code::end_of_stream);
  std::uint64_t bytes = std::min({left(), *size - source(), extent_bytes_max});
  const bool to_both_ends = source() + bytes == *size && target() + bytes >= *target_size;
  const std::uint64_t cut = to_both_ends ? 0 : (source() + bytes) % shared_block_bytes;
  if (cut >= bytes) return fall_back(part_of_block);
  bytes -= cut;
  shared_ = {from_.fd.get(), into_.fd.get(), source(), target(), bytes};
  step_ = step::sharing;
}

task<int> copying::flow() {
  while (step_ != step::ended) {
    if (step_ == step::leasing) {
      const stall_watch watch({into_.core.values().receive.timeout_ms, 0});
      lease_await leasing(into_.core.blocks(), into_.core.loop(), watch.lease_timeout());
      leased(co_await leasing);
    } else {
      op_await acting(into_.core.loop(), request());
      const result<std::size_t> got = co_await acting;
      count_op(so_far_, acting.awaited());
      answered(got, acting.moved());
    }
  }
  co_return failure_;
}

op_request copying::transfer_request(op_kind kind, file_state& file, std::uint64_t offset,
                                     std::uint64_t length) {
  op_request request = on_file(file, kind);
  request.data = block_.data();
  request.offset = offset;
  request.length = length;
  return request;
}

op_request copying::request() {
  const std::uint64_t piece_left = piece_end_ - source();
  switch (step_) {
    case step::sharing:
      return call_of(
          [](void* range) {
            return share_blocks(*static_cast<const kernel::shared_range*>(range));
          },
          &shared_);
    case step::appending:
      return call_of(
          [](void* range) -> std::int64_t {
            auto& r = *static_cast<kernel::appended_range*>(range);
            append_pieces(r);
            return r.failure == -EINTR || r.failure == -EAGAIN ? r.failure : 0;  // to be repeated
          },
          &appended_);
    case step::punching: {
      op_request request = transfer_request(op_kind::fallocate, into_, target(), punch_bytes_);
      request.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      return request;
    }
    case step::ranging: {
      op_request request = transfer_request(op_kind::copy_file_range, into_, target(),
                                            std::min(piece_left, knobs().chunk_bytes));
      request.fd2 = from_.fd.get();
      request.offset2 = source();
      return request;
    }
    case step::reading:
      return transfer_request(op_kind::read, from_, source(),
                              std::min<std::uint64_t>(piece_left, block_.size()));
    case step::writing: return transfer_request(op_kind::write, into_, target(), in_block_);
    case step::growing: {
      // By ftruncate what somebody else writes behind the range meanwhile might be cut off.
      if (cannot_allocate_) return transfer_request(op_kind::ftruncate, into_, 0, target());
      return transfer_request(op_kind::fallocate, into_, target() - 1, 1);
    }
    default:
      return call_of(
          [](void* piece) { return find_piece(*static_cast<kernel::file_piece*>(piece)); },
          &piece_);
  }
}

// `moved` is exact, whatever the operation came to.
void copying::answered(const result<std::size_t>& got, std::uint64_t moved) {
  if (!got) {
    if (step_ == step::writing) was_written(moved);
    return failed(got.error().code);
  }
  switch (step_) {
    case step::sharing: return was_shared();
    case step::appending: return was_appended();
    case step::finding: return was_found();
    case step::punching: return was_punched();
    case step::ranging: return was_ranged(moved);
    case step::reading: return was_read(moved);
    case step::writing: return was_written(moved);
    default: return end(0);
  }
}

void copying::failed(int failure) {
  switch (step_) {
    case step::sharing:
      if (says_cannot(failure)) return fall_back(not_shared);
      break;
    case step::appending:
    case step::ranging:
      if (says_cannot(failure)) return fall_back(not_by_kernel);
      break;
    case step::punching:
      if (!says_cannot(failure)) break;
      fills_holes_ = true;
      return treat_piece();
    case step::growing:
      if (!says_cannot(failure) || std::exchange(cannot_allocate_, true)) break;
      return;
    case step::finding:
      if (failure == ENXIO) return end(code::end_of_stream);
      break;
    default: break;
  }
  end(failure);
}

void copying::leased(result<lease> got) {
  if (!got) return end(got.error().code == ETIMEDOUT ? ENOBUFS : got.error().code);
  block_ = std::move(*got);
  treat_piece();
}

void copying::count_moved(std::uint64_t bytes) {
  so_far_.bytes += bytes;
  moved_ += bytes;
  if (way_ != so_far_.path) so_far_.misrouted_bytes += bytes;
  if (so_far_.first_byte.count() == 0 && bytes > 0) so_far_.first_byte = elapsed();
  if (way_ == path::reflink) return;
  uses_pages_ = true;
  if (source_pages_ == nullptr) return;
  source_pages_->passed(source());
  target_pages_->passed(target());
}

void copying::was_shared() {
  counters().reflink_bytes.add(shared_.bytes);
  count_moved(shared_.bytes);
  go_on();
}

void copying::was_appended() {
  counters().range_bytes.add(appended_.data_bytes);
  counters().hole_bytes.add(appended_.hole_bytes);
  so_far_.bytes += appended_.hole_bytes;
  count_moved(appended_.data_bytes);
  const int failure = static_cast<int>(-appended_.failure);
  if (failure == 0) return go_on();
  if (failure == ENXIO) return end(code::end_of_stream);
  failed(failure);
}

void copying::was_found() {
  piece_end_ = source() + std::min(piece_.bytes, left());
  treat_piece();
}

// What to do with what is left of the piece at the cursor.
void copying::treat_piece() {
  const std::uint64_t bytes = piece_end_ - source();
  if (bytes == 0) return go_on();
  if (piece_.is_hole && !fills_holes_) {
    const auto size = size_of(into_);
    if (!size) return;
    punch_bytes_ = std::min(bytes, *size - std::min(*size, target()));
    if (punch_bytes_ == 0) {
      counters().hole_bytes.add(bytes);
      so_far_.bytes += bytes;
      return go_on();
    }
    punch_bytes_ = std::min(punch_bytes_, extent_bytes_max);
    step_ = step::punching;
  } else if (way_ == path::copy_file_range) {
    step_ = step::ranging;
  } else {
    step_ = block_ ? step::reading : step::leasing;
  }
}

void copying::was_punched() {
  counters().hole_bytes.add(punch_bytes_);
  so_far_.bytes += punch_bytes_;
  treat_piece();
}

// Nothing is the end of the file, or comes from a filesystem that has no such call and says nothing
// of it, as some virtual ones.
void copying::was_ranged(std::uint64_t bytes) {
  if (bytes == 0) {
    const auto size = size_of(from_);
    if (!size) return;
    if (*size <= source()) return end(code::end_of_stream);
    return fall_back(not_by_kernel);
  }
  counters().range_bytes.add(bytes);
  if (bytes < std::min(piece_end_ - source(), knobs().chunk_bytes)) ++so_far_.short_ops;
  count_moved(bytes);
  treat_piece();
}

void copying::was_read(std::uint64_t bytes) {
  if (bytes == 0) return end(code::end_of_stream);
  in_block_ = bytes;
  step_ = step::writing;
}

void copying::was_written(std::uint64_t bytes) {
  counters().copied_bytes.add(bytes);
  count_moved(bytes);
  treat_piece();
}

}  // namespace sluice
