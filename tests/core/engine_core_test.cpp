#include "core/engine_core.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "support/all_given_back.hpp"
#include "support/dies.hpp"
#include "support/engine_fixture.hpp"
#include "support/scripted_backend.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::backends;
using support::small_knobs;

bool ring_is_there() { return std::ranges::find(backends(), "ring") != backends().end(); }

// What was logged while an engine was made.
struct made_engine {
  std::vector<std::string> said;
  result<std::unique_ptr<engine_core>> core;
  explicit made_engine(const knobs& settings)
      : core(engine_core::make(
            settings, [this](log_level, std::string_view text) { said.emplace_back(text); })) {}
  const kernel::capability_row* row(std::string_view name) {
    const auto& rows = (*core)->capabilities().rows();
    const auto found = std::ranges::find(rows, name, &kernel::capability_row::name);
    return found == rows.end() ? nullptr : &*found;
  }
};

TEST_CASE("the backend is the one asked for") {
  for (const std::string& backend : backends()) {
    made_engine e(small_knobs(backend));
    REQUIRE(e.core.has_value());
    CHECK((*e.core)->carrier().name() == backend);
    CHECK(e.said.empty());
  }
  made_engine e(small_knobs("auto"));
  CHECK((*e.core)->carrier().name() == backends().back());
}

TEST_CASE("without io_uring auto takes the pool and says so, and ring fails") {
  const support::all_given_back watch;
  for (const char* hidden : {"io_uring", "ring.op.recv", "ring.op.poll"}) {
    CAPTURE(hidden);
    made_engine chosen(small_knobs("auto", {{"sluice.capabilities.hidden", hidden}}));
    REQUIRE(chosen.core.has_value());
    CHECK((*chosen.core)->carrier().name() == "pool");
    CHECK(chosen.said.size() == 1);
    CHECK(chosen.said[0].find("thread pool") != std::string::npos);
    made_engine forced(small_knobs("ring", {{"sluice.capabilities.hidden", hidden}}));
    CHECK_FALSE(forced.core.has_value());
  }
  made_engine e(small_knobs("auto", {{"sluice.capabilities.hidden", "io_uring"}}));
  REQUIRE(e.row("io_uring") != nullptr);
  CHECK(e.row("io_uring")->reason == "hidden by sluice.capabilities.hidden");
}

TEST_CASE("every capability is named once, with a reason exactly where it is absent") {
  for (const std::string& backend : backends()) {
    made_engine e(small_knobs(backend, {{"sluice.capabilities.hidden", "openat2"}}));
    std::set<std::string> names;
    for (const kernel::capability_row& row : (*e.core)->capabilities().rows()) {
      CAPTURE(row.name);
      CHECK(names.insert(row.name).second);
      CHECK(row.reason.empty() == row.present);
    }
    CHECK_FALSE((*e.core)->tried().openat2);
  }
}

TEST_CASE("knobs that contradict each other are refused, and what contradicts is said") {
  const support::all_given_back watch;
  for (const std::string& backend : backends()) {
    const auto refused = [&backend](std::initializer_list<support::knob_value> more) {
      made_engine e(small_knobs(backend, more));
      REQUIRE_FALSE(e.core.has_value());
      CHECK(e.core.error().code == EINVAL);
      CHECK(e.said.size() == 1);
    };
    refused({{"sluice.ring.entries", "256"}, {"sluice.ring.completion_entries", "64"}});
    refused({{"sluice.memory.head_bytes", "64K"}, {"sluice.memory.block_bytes", "32K"}});
    refused({{"sluice.memory.head_blocks", "1000"}});
  }
}

TEST_CASE("blocks are registered with the ring, unless a knob or a mask says no") {
  if (!ring_is_there()) return;
  const auto index_with = [](std::initializer_list<support::knob_value> more) {
    made_engine e(small_knobs("ring", more));
    const lease block = (*e.core)->blocks().try_take();
    const lease head = (*e.core)->heads().try_take();
    CHECK(block.buffer_index() == head.buffer_index());
    CHECK(((*e.core)->counters().memory.registered_bytes.get() > 0) == (block.buffer_index() >= 0));
    return block.buffer_index();
  };
  CHECK(index_with({}) == 0);
  CHECK(index_with({{"sluice.memory.register", "off"}}) == -1);
  CHECK(index_with({{"sluice.capabilities.hidden", "registered_buffers"}}) == -1);
}

TEST_CASE("an engine that cannot be made gives back what it had taken") {
  // In a child, whose limit it may lower: descriptors run out at every step.
  for (const std::string& backend : backends()) {
    for (int spare = 0; spare < 4; ++spare) {
      const pid_t child = ::fork();
      if (child == 0) {
        const std::size_t before = support::fd_count();
        rlimit few{};
        ::getrlimit(RLIMIT_NOFILE, &few);
        const rlim_t usual = few.rlim_cur;
        few.rlim_cur = static_cast<rlim_t>(::dup(0)) + static_cast<rlim_t>(spare);
        ::close(static_cast<int>(few.rlim_cur) - spare);
        ::setrlimit(RLIMIT_NOFILE, &few);
        const bool made = engine_core::make(small_knobs(backend), {}).has_value();
        few.rlim_cur = usual;
        ::setrlimit(RLIMIT_NOFILE, &few);
        const bool same = support::fd_count() == before;
        ::_exit(same && (made == (spare >= 2)) ? 0 : made ? 2 : same ? 3 : 4);
      }
      int status = 0;
      ::waitpid(child, &status, 0);
      CAPTURE(backend);
      CAPTURE(spare);
      CHECK(WIFEXITED(status));
      CHECK(WEXITSTATUS(status) == 0);
    }
  }
}

TEST_CASE("a live knob is set in the engine, a start-only one is refused and unchanged") {
  made_engine e(small_knobs("pool"));
  engine_core& core = **e.core;
  CHECK(core.set_live("sluice.receive.depth", "3").has_value());
  CHECK(core.values().receive.depth == 3);
  CHECK(core.settings().get("sluice.receive.depth") == "3");
  CHECK(core.set_live("sluice.pool.threads", "3").error().code == code::start_only);
  CHECK(core.values().pool.threads == 4);
  CHECK(core.set_live("sluice.receive.depth", "100000").error().code == code::out_of_range);
  CHECK(core.values().receive.depth == 3);
  CHECK(core.set_live("sluice.absent", "1").error().code == code::unknown_name);
}

TEST_CASE("a scope that ends with an op under way aborts, whatever the build") {
  CHECK(support::aborts([] {
    support::scripted_backend backend;
    tuning::counters counters;
    auto* on = new loop(backend, counters);
    auto* o = new support::told_op(support::request_of(op_kind::fsync, 3));
    scope s;
    on->start(*o, &s);
  }));
}

}  // namespace
