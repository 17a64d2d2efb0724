#include "storage/merged_write.hpp"

#include <algorithm>
#include <climits>

#include "storage/file_state.hpp"

namespace sluice {
namespace {

// Of a write that need not grow its memory: 512 KiB of 16 KiB blocks, and as much again.
constexpr std::size_t parts_kept = 64;

}  // namespace

write_access access_of(const write_piece& p, const write_target& target) {
  if (target.direct < 0) return write_access::cached;
  const std::uint64_t unit = target.alignment.offset_bytes;
  const auto address = reinterpret_cast<std::uintptr_t>(p.data);
  const std::uint32_t memory_unit = std::max(target.alignment.memory_bytes, 1U);
  const bool aligned = p.offset % unit == 0 && p.bytes % unit == 0 && address % memory_unit == 0;
  return aligned ? write_access::direct : write_access::cached;
}

merged_write::merged_write() { parts_.reserve(parts_kept); }

write_piece* merged_write::take(write_piece& begin, range_map& of, const write_target& target) {
  first_ = &begin;
  pieces_ = 0;
  bytes_ = 0;
  access_ = access_of(begin, target);
  buffer_index_ = begin.block.buffer_index();
  parts_.clear();
  for (auto at = range_map::at(begin); at != of.end(); ++at) {
    if (at->offset != begin.offset + bytes_ || access_of(*at, target) != access_) return &*at;
    if (!add(*at)) return &*at;
  }
  return nullptr;
}

// False: there are as many vectors as a call takes.
bool merged_write::add(const write_piece& p) {
  auto* const memory = const_cast<std::byte*>(p.data);
  if (!parts_.empty() &&
      static_cast<std::byte*>(parts_.back().iov_base) + parts_.back().iov_len == memory) {
    parts_.back().iov_len += p.bytes;
  } else if (parts_.size() < IOV_MAX) {
    parts_.push_back({memory, p.bytes});
  } else {
    return false;
  }
  if (p.block.buffer_index() != buffer_index_) buffer_index_ = -1;
  ++pieces_;
  bytes_ += p.bytes;
  return true;
}

op_request merged_write::request(const write_target& target) {
  const bool direct = access_ == write_access::direct;
  op_request request;
  request.fd = direct ? target.direct : target.cached;
  request.route = direct ? target.direct_route : write_route(target.in_memory, bytes_);
  request.offset = first_->offset;
  if (is_fixed()) request.buffer_index = static_cast<std::uint16_t>(buffer_index_);
  if (has_vectors()) {
    request.kind = is_fixed() ? op_kind::writev_fixed : op_kind::writev;
    request.data = parts_.data();
    request.length = parts_.size();
  } else {
    request.kind = is_fixed() ? op_kind::write_fixed : op_kind::write;
    request.data = parts_.front().iov_base;
    request.length = bytes_;
  }
  return request;
}

}  // namespace sluice
