// Bytes that the kernel's copy functions really moved for a process, summed by bpftrace.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "child.hpp"
#include "setup.hpp"

namespace bench {

// Which events can be summed here. Each byte a copy moves is seen by exactly one of them.
enum class copy_source : std::uint8_t {
  none,
  // Returns of _copy_to_iter, _copy_from_iter and their kin and of copy_folio_from_iter_atomic.
  // copy_page_to_iter, copy_page_from_iter and simple_copy_to_iter end in the first two, so they
  // are left out.
  functions,
  // No probes on functions in this kernel: the tracepoint of socket receives and those of ext4's
  // buffered writes. Enough for a receive on ext4, and for nothing else.
  tracepoints,
};

// How copies can be measured here, found by trying once; the reason where they cannot.
struct copy_ability {
  copy_source source = copy_source::none;
  std::string script;
  std::string why;
};
[[nodiscard]] const copy_ability& can_measure_copies(const setup& on);

// Sums from its start to finish(), for every process of the machine.
class copy_meter {
 public:
  // Nothing when it cannot be, see can_measure_copies.
  static std::optional<copy_meter> start(const setup& on);
  // Copied bytes by process (the thread group, io-wq workers included).
  [[nodiscard]] std::map<pid_t, double> finish();

 private:
  explicit copy_meter(child running) : running_(std::move(running)) {}
  child running_;
};

}  // namespace bench
