// The case latency: small GETs at times that do not wait for answers, at shares of the rate that
// the same server reaches in a closed loop. The clock starts when a request was due.
#include <fmt/format.h>

#include <array>
#include <optional>
#include <vector>

#include "cases.hpp"
#include "http_servers.hpp"
#include "load.hpp"
#include "measure.hpp"

namespace bench {

namespace {

constexpr std::uint64_t object_bytes = 16 * 1024;
constexpr unsigned connections = 64;
constexpr std::array shares = {0.5, 0.7, 0.9};

double seconds_of_run(const setup& on) {
  return on.how_much == effort::tiny ? 0.1 : on.how_much == effort::quick ? 1 : 5;
}

// Requests per second in a closed loop: the median of three.
std::optional<double> maximum(const pattern& payload, const http_server& of, double seconds) {
  auto load =
      load_generator::connect(get_source(object_bytes), payload, of.running->port(), connections);
  if (!load) return std::nullopt;
  std::vector<figures> runs;
  for (int i = 0; i < 4; ++i) {
    closed_load wanted;
    wanted.seconds = seconds;
    const auto done = load->run(wanted);
    if (!done) return std::nullopt;
    if (i == 0) continue;  // warm-up
    runs.push_back({{"rate", static_cast<double>(done->requests) / done->seconds}});
  }
  return value(median(runs), "rate");
}

// One row of a server: one share of its maximum.
struct offered {
  http_server* of;
  double share;
  double requests_per_second;
  row seen;
};

void run_once(const pattern& payload, offered& one, double seconds, std::uint64_t seed) {
  if (!one.seen.unavailable.empty()) return;
  auto load = load_generator::connect(get_source(object_bytes), payload, one.of->running->port(),
                                      connections);
  if (!load) {
    one.seen.unavailable = load.error();
    return;
  }
  let_accept(connections);
  measurement around(*one.of->running);
  const auto done = load->run(open_load{one.requests_per_second, seconds, seed});
  if (!done || done->latencies_us.empty()) {
    one.seen.unavailable = done ? "too few requests" : done.error();
    return;
  }
  one.seen.bytes = done->requests * object_bytes;
  figures seen = around.finish(done->seconds, done->requests, one.seen.bytes);
  seen["offered_share"] = one.share;
  seen["offered_per_second"] = one.requests_per_second;
  seen["p50_us"] = quantile(done->latencies_us, 0.5);
  seen["p99_us"] = quantile(done->latencies_us, 0.99);
  seen["p99_9_us"] = quantile(done->latencies_us, 0.999);
  seen["max_us"] = done->latencies_us.back();
  one.seen.runs.push_back(seen);
}

std::vector<offered> offers_to(const pattern& payload, std::vector<http_server>& servers,
                               double seconds, outcome& all) {
  std::vector<offered> offers;
  for (http_server& of : servers) {
    const auto most = of.running ? maximum(payload, of, seconds) : std::nullopt;
    if (!most) {
      if (of.running) of.seen.unavailable = "requests failed";
      all.rows.push_back(of.seen);
      continue;
    }
    all.notes.push_back(fmt::format("maximum of {}: {:.0f} requests/s over {} connections",
                                    of.seen.way, *most, connections));
    for (const double share : shares) {
      offers.push_back({&of, share, *most * share, of.seen});
      offers.back().seen.way += fmt::format(" at {:.0f}%", share * 100);
    }
  }
  return offers;
}

}  // namespace

outcome run_latency(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "latency";
  all.columns = {"p99_us",
                 "p50_us",
                 "p99_9_us",
                 "max_us",
                 "offered_share",
                 "requests_per_second",
                 "cpu_us_per_request"};
  all.notes.emplace_back("microseconds from the moment a request was due (Poisson arrivals)");
  std::vector<http_server> servers = start_http_servers(on, payload, object_bytes, connections);
  const double seconds = seconds_of_run(on);
  std::vector<offered> offers = offers_to(payload, servers, seconds, all);
  for (offered& one : offers) {  // warm-up
    run_once(payload, one, seconds / 4, 0);
    one.seen.runs.clear();
  }
  for (unsigned turn = 0; turn < on.runs; ++turn) {
    for (std::size_t i = 0; i < offers.size(); ++i) {
      offered& one = offers[turn % 2 == 0 ? i : offers.size() - 1 - i];
      run_once(payload, one, seconds, turn + 1);
    }
  }
  for (http_server& of : servers) of.seen.verified = end_http_server(payload, of).verified;
  for (offered& one : offers) {
    one.seen.verified = one.seen.unavailable.empty() && one.of->seen.verified;
    all.rows.push_back(one.seen);
  }
  return all;
}

}  // namespace bench
