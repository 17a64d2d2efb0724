// An engine for one test, on a given backend, with a small arena; at the end it checks that all was
// given back: tasks, leases, descriptors, threads.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/engine.hpp"
#include "sluice/knobs.hpp"
#include "support/process_counts.hpp"

namespace support {

struct knob_value {
  std::string_view name;
  std::string_view value;
};

// 1 MiB: 8 heads of 4 KiB, and 15 blocks of 64 KiB.
inline sluice::knobs small_knobs(std::string_view backend,
                                 std::initializer_list<knob_value> more = {}) {
  sluice::knobs made;
  const auto set = [&made](const knob_value& k) {
    if (!made.set(k.name, k.value)) throw std::runtime_error("knob " + std::string(k.name));
  };
  for (const knob_value& k : std::initializer_list<knob_value>{
           {"sluice.backend", backend},
           {"sluice.memory.arena_bytes", "1M"},
           {"sluice.memory.block_bytes", "64K"},
           {"sluice.memory.head_bytes", "4K"},
           {"sluice.memory.head_blocks", "8"},
           {"sluice.memory.huge_pages", "never"},
           {"sluice.pool.threads", "4"},
       }) {
    set(k);
  }
  for (const knob_value& k : more) set(k);
  return made;
}

inline sluice::engine make_engine(const sluice::knobs& settings) {
  sluice::result<sluice::engine> made = sluice::engine::create(settings);
  if (!made) throw std::runtime_error("engine: " + sluice::describe(made.error()));
  return std::move(*made);
}

// The backends that this machine lets us have: "pool" always, "ring" where io_uring is not
// forbidden.
inline const std::vector<std::string>& backends() {
  static const std::vector<std::string> found = [] {
    std::vector<std::string> names{"pool"};
    const sluice::result<sluice::engine> ring = sluice::engine::create(small_knobs("ring"));
    if (ring) {
      names.emplace_back("ring");
    } else {
      MESSAGE("no ring here: ", sluice::describe(ring.error()));
    }
    return names;
  }();
  return found;
}

inline bool has_backend(const std::string& name) {
  return std::find(backends().begin(), backends().end(), name) != backends().end();
}

class engine_fixture {
 public:
  explicit engine_fixture(std::string_view backend, std::initializer_list<knob_value> more = {})
      : fds_before_(fd_count()),
        threads_before_(thread_count()),
        engine_(make_engine(small_knobs(backend, more))) {}
  engine_fixture(const engine_fixture&) = delete;
  engine_fixture& operator=(const engine_fixture&) = delete;
  ~engine_fixture() { finish(); }

  [[nodiscard]] sluice::engine& engine() { return *engine_; }
  sluice::engine* operator->() { return &*engine_; }
  sluice::engine& operator*() { return *engine_; }
  [[nodiscard]] std::uint64_t counter(std::string_view name) const {
    return engine_->counters().get(name).value();
  }

  // Runs one task to its end and gives its value.
  template <class T>
  T run(sluice::task<T> work) {
    std::optional<T> value;
    engine_->start(std::move(work), [&value](T made) { value.emplace(std::move(made)); });
    engine_->run();
    REQUIRE(value.has_value());
    return std::move(*value);
  }
  void run(sluice::task<void> work) {
    engine_->spawn(std::move(work));
    engine_->run();
  }

  // Ends the engine now and checks; descriptors that the test holds must be as they were.
  void finish() {
    if (!engine_) return;
    engine_->cancel_all();
    engine_->run();
    CHECK(counter("sluice.memory.leases_in_use") == 0);
    engine_.reset();
    CHECK_MESSAGE(comes_true([this] { return fd_count() == fds_before_; }),
                  "descriptors: ", fd_count(), " instead of ", fds_before_);
    CHECK_MESSAGE(comes_true([this] { return thread_count() <= threads_before_; }),
                  "threads: ", thread_count(), " instead of ", threads_before_);
  }

 private:
  std::size_t fds_before_;
  std::size_t threads_before_;
  std::optional<sluice::engine> engine_;
};

}  // namespace support
