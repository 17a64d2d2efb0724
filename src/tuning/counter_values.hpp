// The counters an engine writes, made from counters.def. A layer is handed its own group
// (`memory_counters&`) by the engine; none reads a global.
#pragma once

#include <atomic>
#include <cstdint>

#include "sluice/counters.hpp"

namespace sluice::tuning {

// One number, written by the loop thread only and readable by any. Relaxed, because no reader
// infers anything else from the value; and a load and a store instead of fetch_add, because with a
// single writer that loses nothing and costs no locked instruction.
class counter {
 public:
  void add(std::uint64_t n = 1) { set(get() + n); }
  void subtract(std::uint64_t n = 1) { set(get() - n); }
  void set(std::uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// struct ops_counters { counter submitted; ... }; and so on.
#define SLUICE_GROUP(group) struct group##_counters {
#define SLUICE_COUNTER(group, field, name, kind, unit, help) counter field;
#define SLUICE_GROUP_END(group) \
  }                             \
  ;
#include "tuning/counters.def"

struct counters {
#define SLUICE_GROUP(group) group##_counters group;
#include "tuning/counters.def"
};

// The way out, snapshot(const counters&), is declared in sluice/counters.hpp.

}  // namespace sluice::tuning
