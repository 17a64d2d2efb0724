// sluice-bench: what each way of moving bytes costs here, side by side in one run.
//
//   main              the command line; figures: medians and spreads; setup: where things are
//   cases             the table of cases; case_*: one file for each kind
//   frame_load        the sender of the case framed; serve_frames: its receiver
//   contest           one combination of size and connections: all ways, warm-up, A B B A, verify
//   server, nginx, haproxy  the servers measured; serve, sink: those of this program; child:
//   processes load, exchange    the load generator; pattern: the payload; place: folders, verifying
//   measure           clock, CPU and counters around a run; usage: /proc; counters: perf events
//   copies, yardstick copies by bpftrace; the disk alone, iperf3
//   outcome, report_* rows and limits; tables for people and JSON for programs
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "cases.hpp"
#include "place.hpp"
#include "report.hpp"
#include "serve.hpp"
#include "setup.hpp"

namespace {

constexpr int status_failed = 1;
constexpr int status_usage = 2;

struct command_line {
  bench::setup on;
  bool quick = false;
  bool tiny = false;
  bool list = false;
  unsigned runs = 0;
  std::string peers;
};

// What a payload of the case framed may have.
std::string power_of_two(const std::string& text) {
  const std::uint64_t bytes = std::strtoull(text.c_str(), nullptr, 10);
  return std::has_single_bit(bytes) && bytes >= 8 && bytes <= 1 << 20
             ? ""
             : "no power of two from 8 to 1 MiB: " + text;
}

void describe(CLI::App& app, command_line& given) {
  app.add_option("CASE", given.on.cases, "What to measure; see --list");
  app.add_flag("--quick", given.quick, "Fewer sizes, ways and runs: minutes instead of hours");
  app.add_flag("--tiny", given.tiny)->group("");  // hidden: for the tool's own test
  app.add_flag("--list", given.list, "Show the cases");
  app.add_option("--json", given.on.json_file, "Write the results there");
  app.add_option("--runs", given.runs, "Timed runs of each way (default 7, --quick 3)")
      ->check(CLI::Range(1u, 1000u));
  app.add_option("--dir", given.on.directory, "On the disk to measure (default: here)")
      ->check(CLI::ExistingDirectory);
  app.add_option("--tmpfs", given.on.tmpfs, "On a tmpfs (default: /dev/shm)")
      ->check(CLI::ExistingDirectory);
  app.add_option(
         "--retire", given.on.retired,
         "Where measured files wait, emptied, on that disk (default: in --dir, until the end)")
      ->check(CLI::ExistingDirectory);
  app.add_option("--peers", given.peers, "Where the peers' programs are (default: beside this one)")
      ->check(CLI::ExistingDirectory);
  app.add_option("--only", given.on.only, "Only ways whose name contains this");
  app.add_option("--payloads", given.on.payload_bytes, "framed: powers of two, as 1K,16K,1M")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(power_of_two);
  app.add_option("--connections", given.on.connections, "framed: how many, as 1,16,256")
      ->delimiter(',')
      ->check(CLI::Range(1u, 4096u));
  app.add_option("--storage", given.on.storages, "framed: of none, tmpfs, page cache, direct")
      ->delimiter(',')
      ->check(CLI::IsMember({"none", "tmpfs", "page cache", "direct"}));
  app.footer("sluice-bench serve --help: the server that the ways named sluice measure");
}

void show_cases(std::FILE* where) {
  fmt::print(where, "cases:\n");
  for (const bench::bench_case& one : bench::cases()) {
    fmt::print(where, "  {:<14}{}\n", one.name, one.what);
  }
}

// False: a case nobody knows.
bool all_known(const bench::setup& on) {
  for (const std::string& name : on.cases) {
    if (bench::find_case(name) != nullptr) continue;
    fmt::print(stderr, "sluice-bench: no case `{}`\n", name);
    return false;
  }
  return true;
}

void complete(command_line& given) {
  bench::setup& on = given.on;
  on.how_much = given.tiny    ? bench::effort::tiny
                : given.quick ? bench::effort::quick
                              : bench::effort::full;
  on.runs = given.runs > 0 ? given.runs : given.tiny ? 2 : given.quick ? 3 : 7;
  std::error_code ignored;
  on.self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::string beside = std::filesystem::path(on.self).parent_path();
  if (!given.peers.empty()) on.program_directories.push_back(given.peers);
  on.program_directories.insert(on.program_directories.end(),
                                {beside, beside + "/bench-peers", beside + "/tools/bench-peers"});
  if (on.directory.empty()) on.directory = ".";
  on.directory = std::filesystem::absolute(on.directory, ignored);
  if (on.tmpfs.empty() && bench::filesystem_of("/dev/shm") == "tmpfs" &&
      ::access("/dev/shm", W_OK) == 0) {
    on.tmpfs = "/dev/shm";
  }
}

#ifdef __OPTIMIZE__
constexpr bool optimized = true;
#else
constexpr bool optimized = false;
#endif

// Thousands of connections at once.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
}

// The folder of --retire, or one of our own. Deleted files slow down the runs after them
// (place.cpp), so they go last.
std::optional<bench::scratch> make_retired(bench::setup& on) {
  if (!on.retired.empty()) return bench::scratch::none();
  auto own = bench::scratch::make(on.directory);
  if (!own) {
    fmt::print(stderr, "sluice-bench: {}\n", own.error());
    return std::nullopt;
  }
  on.retired = own->path();
  return std::move(*own);
}

int run(const bench::setup& on, bench::record& results) {
  const bench::pattern payload;
  for (const std::string& name : on.cases) {
    results.cases.push_back(bench::find_case(name)->run(on, payload));
    bench::print(results.cases.back());
    // After every case: what is measured is kept, whatever happens to the next.
    if (!on.json_file.empty() && !bench::write_json(on, results)) {
      fmt::print(stderr, "sluice-bench: {} cannot be written\n", on.json_file);
      return status_failed;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "serve") return bench::serve_main(argc - 1, argv + 1);
  if (first == "sink") return bench::sink_main(argc - 1, argv + 1);
  CLI::App app("sluice-bench: what each way of moving bytes costs here, side by side");
  command_line given;
  describe(app, given);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : status_usage;
  }
  if (given.list) {
    show_cases(stdout);
    return 0;
  }
  if (given.on.cases.empty() || !all_known(given.on)) {
    show_cases(stderr);
    return status_usage;
  }
  complete(given);
  if constexpr (!optimized) {
    fmt::print(stderr, "sluice-bench: these figures mean little: build with --buildtype=release\n");
  }
  raise_descriptor_limit();
  const auto retired = make_retired(given.on);
  if (!retired) return status_failed;
  bench::record results;
  results.command.assign(argv, argv + argc);
  results.started = bench::time_now();
  return run(given.on, results);
}
