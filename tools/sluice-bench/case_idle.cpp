// The case idle: many keep-alive connections that asked once and now say nothing.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "cases.hpp"
#include "http_servers.hpp"
#include "load.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::uint64_t object_bytes = 1024;

const way sluiced_idle{.name = "sluiced",
                       .peer = "sluiced",
                       .durable = false,
                       .settings = {"sluice.http.idle_timeout_ms=600000"}};
const way nginx_idle{.name = "nginx, one worker", .peer = "nginx", .durable = false};

unsigned connections_wanted(const setup& on) {
  return on.how_much == effort::tiny ? 20 : on.how_much == effort::quick ? 1'000 : 10'000;
}

// sluiced keeps two descriptors for each connection, one for the file of an upload; beyond that it
// closes the idle, which is what this case must not see. Some are to spare.
unsigned connections_possible(unsigned wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  // Who may (CAP_SYS_RESOURCE) raises the limit; the servers inherit it.
  const rlimit more{rlim_t{wanted} * 2 + 400, rlim_t{wanted} * 2 + 400};
  if (limit.rlim_max < more.rlim_max && setrlimit(RLIMIT_NOFILE, &more) == 0) limit = more;
  const rlim_t possible = limit.rlim_max > 400 ? limit.rlim_max / 2 - 100 : 100;
  return static_cast<unsigned>(std::min<rlim_t>(wanted, possible));
}

// Of a full run so many that a line can be drawn.
std::vector<unsigned> counts_up_to(unsigned most, const setup& on) {
  if (on.how_much != effort::full) return {most};
  std::vector<unsigned> counts;
  for (const unsigned fewer : {1'000u, 3'000u}) {
    if (fewer < most) counts.push_back(fewer);
  }
  counts.push_back(most);
  return counts;
}

// Slab memory of the kernel: the sockets and descriptors of both ends.
std::optional<double> kernel_slab_bytes() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("Slab:")) continue;
    std::istringstream words(line.substr(5));
    double kibibytes = 0;
    if (words >> kibibytes) return kibibytes * 1024;
  }
  return std::nullopt;
}

struct memory {
  std::optional<double> resident;
  std::optional<double> anonymous;
  std::optional<double> slab;
};

memory memory_now(pid_t pid) {
  return {memory_of(pid, "VmRSS"), memory_of(pid, "RssAnon"), kernel_slab_bytes()};
}

std::optional<double> share(std::optional<double> after, std::optional<double> before,
                            unsigned connections) {
  if (!after || !before) return std::nullopt;
  return (*after - *before) / connections;
}

// Busy connections first, gone again before the idle ones come: what a server sets aside for its
// work at hand, whatever the number of connections, is not shared out among the idle (rss_bytes
// has it).
bool warm(const setup& on, const pattern& payload, const http_server& of) {
  const unsigned connections = on.how_much == effort::tiny ? 4 : 512;
  auto load =
      load_generator::connect(get_source(object_bytes), payload, of.running->port(), connections);
  closed_load some;
  some.requests = std::uint64_t{connections} * 4;
  return load && load->run(some);
}

std::expected<figures, std::string> measure(const setup& on, const pattern& payload,
                                            const http_server& of, unsigned connections) {
  if (!warm(on, payload, of)) return std::unexpected("requests failed");
  const pid_t pid = of.running->pid();
  const memory before = memory_now(pid);
  const double start = seconds_now();
  auto load =
      load_generator::connect(get_source(object_bytes), payload, of.running->port(), connections);
  if (!load) return std::unexpected(load.error());
  closed_load each_once;
  each_once.requests = connections;
  if (const auto asked = load->run(each_once); !asked) return std::unexpected(asked.error());
  const double connecting = seconds_now() - start;
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double idle_seconds = on.how_much == effort::tiny    ? 0.2
                              : on.how_much == effort::quick ? 3
                                                             : 5;
  const auto cpu = process_cpu_seconds(pid);
  std::this_thread::sleep_for(std::chrono::duration<double>(idle_seconds));
  const auto used = process_cpu_seconds(pid);
  // Now, when they have been idle for a while: what a server gives back by then it does not hold.
  const memory after = memory_now(pid);
  figures seen;
  seen["seconds"] = idle_seconds;
  seen["idle_connections"] = connections;
  seen["rss_bytes"] = after.resident;
  seen["bytes_per_connection"] = share(after.resident, before.resident, connections);
  seen["anonymous_bytes_per_connection"] = share(after.anonymous, before.anonymous, connections);
  // A few connections drown in what else the machine allocates.
  seen["kernel_bytes_per_connection"] =
      connections < 500 ? std::nullopt : share(after.slab, before.slab, connections);
  seen["idle_cpu_percent"] =
      cpu && used ? std::optional((*used - *cpu) / idle_seconds * 100) : std::nullopt;
  seen["connections_per_second"] = connections / connecting;
  return seen;
}

row measure_way(const setup& on, const pattern& payload, const way& which, unsigned connections) {
  row seen;
  const unsigned runs = on.how_much == effort::tiny ? 1 : on.runs;
  // A fresh process each time: memory once taken is not given back.
  for (unsigned i = 0; i < runs; ++i) {
    http_server of = start_http_server(on, payload, which, object_bytes, connections);
    if (i == 0) seen = of.seen;
    if (!of.running) break;
    const auto figures_now = measure(on, payload, of, connections);
    of.running->stop();
    if (!figures_now) {
      seen.unavailable = figures_now.error();
      break;
    }
    seen.runs.push_back(*figures_now);
  }
  seen.bytes = object_bytes * connections;
  seen.verified = seen.unavailable.empty() && !seen.runs.empty();
  return seen;
}

}  // namespace

outcome run_idle(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "idle";
  all.columns = {"bytes_per_connection",
                 "anonymous_bytes_per_connection",
                 "kernel_bytes_per_connection",
                 "idle_cpu_percent",
                 "rss_bytes",
                 "idle_connections"};
  all.notes.emplace_back("kernel bytes: slab of the machine, both ends of each connection");
  all.notes.emplace_back(
      "bytes each: what they add after 512 busy connections have come and gone, when they have "
      "said "
      "nothing for five seconds (three with --quick)");
  const unsigned wanted = connections_wanted(on);
  const unsigned connections = connections_possible(wanted);
  if (connections < wanted) {
    all.notes.push_back(
        fmt::format("{} connections instead of {}: the limit of open files (ulimit "
                    "-Hn) leaves room for no more",
                    connections, wanted));
  }
  for (const unsigned number : counts_up_to(connections, on)) {
    for (const way& which : {sluiced_idle, nginx_idle}) {
      if (which.name.find(on.only) == std::string::npos) continue;
      all.rows.push_back(measure_way(on, payload, which, number));
    }
  }
  return all;
}

}  // namespace bench
