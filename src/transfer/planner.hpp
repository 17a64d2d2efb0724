// Which path a transfer takes, what it leaves in the page cache, and why: pure functions, no I/O.
#pragma once

#include <cstdint>

#include "kernel/file_info.hpp"
#include "sluice/transfer.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

struct plan {
  path chosen = path::copy;
  const char* reason = "";                    // a string literal, for the receipt
  bool refused = false;                       // the path was forced and cannot carry this transfer
  cache_policy cache = cache_policy::cached;  // how: cached, direct, drop_behind or dontcache
  bool zero_copy = false;                     // what is sent leaves our memory without a copy
};

struct range_request {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  file_content content = file_content::may_change;  // of a file that is sent
  bool checked = false;                             // a body_check wants to see what is received
  cache_policy cache = cache_policy::automatic;
};

// What the file can do, as far as it decides between paths.
struct file_facts {
  kernel::direct_alignment direct;
  const char* direct_distrust = nullptr;   // why nobody should take O_DIRECT by himself, or null
  const char* no_space_promise = nullptr;  // why its space cannot be reserved for certain, or null
  bool dontcache = false;                  // RWF_DONTCACHE
  bool readable = true;                    // open for reading: mapped pages must be
};

// What the engine can do, as far as it decides between paths.
struct engine_capabilities {
  std::uint64_t block_bytes = 0;  // size of a lease: direct transfers move whole blocks
  bool splice = false;            // splice(2) and sendfile(2) are allowed
  bool zero_copy = false;         // the ring sends from registered memory without a copy
  bool copy_file_range = false;   // so is copy_file_range(2)
};

[[nodiscard]] plan plan_receive(const range_request& request, const file_facts& file,
                                const engine_capabilities& engine,
                                const tuning::receive_knobs& knobs);
// Of a body that comes in pieces, of any length and anywhere in memory: only ever copied.
[[nodiscard]] plan plan_pieces(const tuning::receive_knobs& knobs);
[[nodiscard]] plan plan_send(const range_request& request, const file_facts& file,
                             const engine_capabilities& engine, const tuning::send_knobs& knobs);
[[nodiscard]] plan plan_relay(const engine_capabilities& engine, const tuning::relay_knobs& knobs);
// What a copy between files begins with: whether blocks can be shared, and whether the kernel can
// copy between just these two, is only found out by trying.
[[nodiscard]] plan plan_file_copy(cache_policy cache, const engine_capabilities& engine,
                                  const tuning::copy_knobs& knobs);

}  // namespace sluice
