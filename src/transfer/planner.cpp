#include "transfer/planner.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t page_bytes = 4096;  // leases begin on a page

constexpr const char* no_splice = "splice or sendfile is not allowed here";
constexpr const char* no_copy_file_range = "copy_file_range is not allowed here";

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

// Why splice cannot carry what is received, or null.
const char* receive_splice_obstacle(const range_request& request,
                                    const engine_capabilities& engine) {
  if (request.checked) return "a check wants to see the bytes";
  return engine.splice ? nullptr : no_splice;
}

// A path that a knob asks for is taken, or refused with what is in its way: never another one.
plan forced(path wanted, const char* obstacle, const char* by_knob) {
  if (obstacle != nullptr) return {wanted, obstacle, true};
  return {wanted, by_knob};
}

plan choose_send(const range_request& request, const char* no_direct,
                 const engine_capabilities& engine, const tuning::send_knobs& knobs) {
  const bool long_for_direct = request.length >= knobs.direct_min_bytes;
  if (long_for_direct && no_direct == nullptr) {
    return {path::direct, "auto: long and the filesystem takes O_DIRECT"};
  }
  const char* by_copy = nullptr;
  if (request.length < knobs.splice_min_bytes) {
    by_copy = "auto: shorter than splice_min_bytes";
  } else if (request.content != file_content::unchanging) {
    by_copy = "auto: the file may change meanwhile";
  } else if (!engine.splice) {
    by_copy = no_splice;
  }
  if (by_copy == nullptr) return {path::splice, "auto: the file does not change meanwhile"};
  return {path::copy, long_for_direct ? no_direct : by_copy};
}

}  // namespace

plan plan_receive(const range_request& request, const kernel::direct_alignment& file,
                  const engine_capabilities& engine, const tuning::receive_knobs& knobs) {
  const char* no_direct = direct_obstacle(request, file, engine.block_bytes);
  switch (knobs.path) {
    case tuning::path_choice::direct:
      return forced(path::direct, no_direct, "forced by sluice.receive.path=direct");
    case tuning::path_choice::copy: return {path::copy, "forced by sluice.receive.path=copy"};
    case tuning::path_choice::splice:
      return forced(path::splice, receive_splice_obstacle(request, engine),
                    "forced by sluice.receive.path=splice");
    default: break;
  }
  // Never splice by itself: its one copy, into the page cache, costs more than both of the copy
  // path's (kernel-notes/splice_via.md).
  if (request.length < knobs.direct_min_bytes) {
    return {path::copy, "auto: shorter than direct_min_bytes"};
  }
  if (no_direct != nullptr) return {path::copy, no_direct};
  return {path::direct, "auto: long and the filesystem takes O_DIRECT"};
}

plan plan_send(const range_request& request, const kernel::direct_alignment& file,
               const engine_capabilities& engine, const tuning::send_knobs& knobs) {
  // A read may begin before the range: only the alignment of memory and blocks matters.
  const char* no_direct = direct_obstacle({}, file, engine.block_bytes);
  switch (knobs.path) {
    case tuning::path_choice::direct:
      return forced(path::direct, no_direct, "forced by sluice.send.path=direct");
    case tuning::path_choice::copy: return {path::copy, "forced by sluice.send.path=copy"};
    case tuning::path_choice::splice:
      return forced(path::splice, engine.splice ? nullptr : no_splice,
                    "forced by sluice.send.path=splice");
    default: return choose_send(request, no_direct, engine, knobs);
  }
}

plan plan_relay(const engine_capabilities& engine, const tuning::relay_knobs& knobs) {
  const char* obstacle = engine.splice ? nullptr : no_splice;
  switch (knobs.path) {
    case tuning::relay_choice::splice:
      return forced(path::splice, obstacle, "forced by sluice.relay.path=splice");
    case tuning::relay_choice::copy: return {path::copy, "forced by sluice.relay.path=copy"};
    default: break;
  }
  if (obstacle != nullptr) return {path::copy, obstacle};
  return {path::splice, "auto: nobody looks at the bytes"};
}

plan plan_file_copy(const engine_capabilities& engine, const tuning::copy_knobs& knobs) {
  switch (knobs.path) {
    case tuning::file_copy_choice::reflink:
      return {path::reflink, "forced by sluice.copy.path=reflink"};
    case tuning::file_copy_choice::copy_file_range:
      return forced(path::copy_file_range, engine.copy_file_range ? nullptr : no_copy_file_range,
                    "forced by sluice.copy.path=copy_file_range");
    case tuning::file_copy_choice::copy: return {path::copy, "forced by sluice.copy.path=copy"};
    default: return {path::reflink, "auto: the filesystem shares the blocks"};
  }
}

}  // namespace sluice
