#include "transfer/planner.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t page_bytes = 4096;  // leases begin on a page

// Why O_DIRECT cannot carry the range, or null.
const char* direct_obstacle(const range_request& request, const kernel::direct_alignment& file,
                            std::uint64_t block_bytes) {
  if (!file.possible()) return "the filesystem has no O_DIRECT for this file";
  if (file.memory_bytes > page_bytes) return "the file asks for more alignment than a page";
  if (block_bytes % file.offset_bytes != 0)
    return "sluice.memory.block_bytes is no multiple of the alignment";
  if (request.offset % file.offset_bytes != 0) return "the range begins unaligned";
  return nullptr;
}

plan choose(tuning::path_choice wanted, const char* obstacle, bool long_enough,
            const char* forced_direct, const char* forced_copy) {
  if (wanted == tuning::path_choice::copy) return {path::copy, forced_copy};
  if (wanted == tuning::path_choice::direct) {
    if (obstacle != nullptr) return {path::direct, obstacle, true};
    return {path::direct, forced_direct};
  }
  if (!long_enough) return {path::copy, "auto: shorter than direct_min_bytes"};
  if (obstacle != nullptr) return {path::copy, obstacle};
  return {path::direct, "auto: long and the filesystem takes O_DIRECT"};
}

}  // namespace

plan plan_receive(const range_request& request, const kernel::direct_alignment& file,
                  std::uint64_t block_bytes, const tuning::receive_knobs& knobs) {
  return choose(knobs.path, direct_obstacle(request, file, block_bytes),
                request.length >= knobs.direct_min_bytes, "forced by sluice.receive.path=direct",
                "forced by sluice.receive.path=copy");
}

plan plan_send(const range_request& request, const kernel::direct_alignment& file,
               std::uint64_t block_bytes, const tuning::send_knobs& knobs) {
  // A read may begin before the range: only the alignment of memory and blocks matters.
  const range_request from_aligned{0, request.length};
  return choose(knobs.path, direct_obstacle(from_aligned, file, block_bytes),
                request.length >= knobs.direct_min_bytes, "forced by sluice.send.path=direct",
                "forced by sluice.send.path=copy");
}

}  // namespace sluice
