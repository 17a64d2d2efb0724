// The case start: from exec to the line `listening`, as a supervisor sees it.
#include <fmt/format.h>

#include "cases.hpp"
#include "place.hpp"
#include "usage.hpp"

namespace bench {

namespace {

const std::vector<way> start_ways = {
    {.name = "sluiced, auto", .peer = "sluiced", .settings = {"sluice.memory.arena_bytes=64M"}},
    {.name = "sluiced, pool",
     .peer = "sluiced",
     .settings = {"sluice.memory.arena_bytes=64M", "sluice.backend=pool"}},
};

}  // namespace

outcome run_start(const setup& on, const pattern&) {
  outcome all;
  all.name = "start";
  all.columns = {"start_ms", "rss_bytes"};
  all.notes.emplace_back("start_ms: fork, exec and dynamic linking included; arena of 64 MiB");
  const auto place = scratch::make(on.directory);
  for (const way& which : start_ways) {
    row seen;
    seen.way = which.name;
    seen.peer = which.peer;
    seen.kept = storage::none;
    seen.ours = true;
    const unsigned runs = on.how_much == effort::tiny ? on.runs : std::max(on.runs, 7u);
    for (unsigned i = 0; place && i < runs + 1; ++i) {
      const server_order order{"", place->path(), place->path()};
      seen.command = command_of(on, which, order);
      const double start = seconds_now();
      auto started = server::start(on, which, order);
      const double took = seconds_now() - start;
      if (!started) {
        seen.unavailable = started.error();
        break;
      }
      // The first reads the program from the disk.
      if (i > 0) {
        seen.runs.push_back({{"seconds", took},
                             {"start_ms", took * 1000},
                             {"rss_bytes", memory_of(started->pid(), "VmRSS")}});
      }
      started->stop();
    }
    seen.verified = !seen.runs.empty();
    all.rows.push_back(std::move(seen));
  }
  return all;
}

}  // namespace bench
