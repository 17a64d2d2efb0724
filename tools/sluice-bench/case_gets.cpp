// The case gets: small GETs over keep-alive connections in a closed loop, by wrk where it is.
#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "http_servers.hpp"
#include "load.hpp"
#include "measure.hpp"

namespace bench {

namespace {

constexpr std::uint64_t object_bytes = 16 * 1024;
constexpr unsigned connections = 32;

struct answered {
  std::uint64_t requests = 0;
  double seconds = 0;
};

double seconds_of_run(const setup& on) {
  return on.how_much == effort::tiny ? 0.1 : on.how_much == effort::quick ? 2 : 5;
}

// "  12345 requests in 2.00s, ..." of wrk; nothing when some of them failed.
std::optional<answered> requests_in(const std::string& printed) {
  const std::size_t end = printed.find(" requests in ");
  if (end == std::string::npos || printed.find("Non-2xx") != std::string::npos ||
      printed.find("Socket errors") != std::string::npos) {
    return std::nullopt;
  }
  const std::size_t begin = printed.rfind(' ', end - 1) + 1;
  answered seen;
  seen.requests = std::strtoull(printed.c_str() + begin, nullptr, 10);
  seen.seconds = std::strtod(printed.c_str() + end + 13, nullptr);
  if (printed.find("ms, ", end) == printed.find(", ", end) - 2) seen.seconds /= 1000;
  return seen;
}

std::optional<answered> by_wrk(const std::string& wrk, const http_server& of, double seconds) {
  const auto printed =
      output_of({wrk, "-t1", fmt::format("-c{}", connections), fmt::format("-d{:.0f}s", seconds),
                 fmt::format("http://127.0.0.1:{}/source", of.running->port())},
                std::chrono::seconds(60));
  return printed ? requests_in(*printed) : std::nullopt;
}

std::optional<answered> by_load(const pattern& payload, const http_server& of, double seconds) {
  auto load =
      load_generator::connect(get_source(object_bytes), payload, of.running->port(), connections);
  if (!load) return std::nullopt;
  closed_load wanted;
  wanted.seconds = seconds;
  const auto done = load->run(wanted);
  if (!done) return std::nullopt;
  return answered{done->requests, done->seconds};
}

void run_once(const pattern& payload, http_server& of, const std::optional<std::string>& wrk,
              double seconds, bool timed) {
  if (!of.running) return;
  measurement around(*of.running);
  const auto seen = wrk ? by_wrk(*wrk, of, seconds) : by_load(payload, of, seconds);
  if (!seen) {
    of.seen.unavailable = "requests failed";
    of.running.reset();
    return;
  }
  if (!timed) return;
  of.seen.bytes = seen->requests * object_bytes;
  of.seen.runs.push_back(around.finish(seen->seconds, seen->requests, of.seen.bytes));
}

}  // namespace

outcome run_gets(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "gets";
  all.columns = {"requests_per_second",     "cpu_us_per_request", "cpu_s_per_gib.machine",
                 "syscalls_per_request",    "context_switches",   "peak_rss_bytes",
                 "of_best_peer.throughput", "of_best_peer.cpu"};
  // wrk counts in whole seconds.
  const auto wrk = on.how_much == effort::tiny ? std::nullopt : on.program("wrk");
  all.notes.push_back(wrk ? "client: wrk -t1 -c32" : "client: our own, one thread");
  std::vector<http_server> servers = start_http_servers(on, payload, object_bytes, connections);
  const double seconds = seconds_of_run(on);
  for (http_server& of : servers) run_once(payload, of, wrk, seconds, false);
  for (unsigned turn = 0; turn < on.runs; ++turn) {
    for (std::size_t i = 0; i < servers.size(); ++i) {
      http_server& of = servers[turn % 2 == 0 ? i : servers.size() - 1 - i];
      run_once(payload, of, wrk, seconds, true);
    }
  }
  for (http_server& of : servers) all.rows.push_back(end_http_server(payload, of));
  compare(all);
  return all;
}

}  // namespace bench
