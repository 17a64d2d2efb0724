#include "contest.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <expected>
#include <map>
#include <utility>

#include "copies.hpp"
#include "counters.hpp"
#include "load.hpp"
#include "measure.hpp"
#include "place.hpp"
#include "usage.hpp"

namespace bench {

namespace {

// A way with its server and its folder. Ends both.
struct entrant {
  way which;
  std::string retired;  // where its files go
  scratch place;
  std::string directory;
  std::optional<server> running;
  request_form form;
  std::uint64_t objects = 1;
  std::uint64_t next_id = 0;
  row seen;
  bool settles = true;  // after each run its removed files are synced away, unless time is short
};

std::string parent_of(const setup& on, const way& which) {
  return which.kept == storage::tmpfs ? on.tmpfs : on.directory;
}

request_form form_of(const contest_order& wanted, const way& which) {
  request_form form;
  form.speaks = which.speaks_http() ? dialect::http : dialect::wire;
  form.towards = wanted.towards;
  form.object_bytes = wanted.size.object_bytes;
  return form;
}

row empty_row(const contest_order& wanted, const way& which, std::uint64_t objects) {
  row made;
  made.way = which.name;
  made.peer = which.peer;
  made.kept = which.kept;
  // --sync is asked for on tmpfs too, for the same work; what it holds is gone with the power.
  made.durable = which.durable && wanted.towards == direction::upload &&
                 which.kept != storage::tmpfs && which.kept != storage::none;
  made.ours = which.ours();
  made.object_bytes = wanted.size.object_bytes;
  made.bytes = objects * wanted.size.object_bytes;
  made.connections = wanted.size.connections;
  return made;
}

// Ways that read through one cache share one file: copies of a large one would push each other out.
std::expected<void, std::string> share_source(const pattern& payload, const entrant& e,
                                              std::map<storage, std::string>& sources) {
  const std::string own = e.directory + "/source";
  std::string& first = sources[e.which.kept];
  if (!first.empty() && ::link(first.c_str(), own.c_str()) == 0) return {};
  first = own;
  return make_source(payload, own, e.form.object_bytes);
}

std::expected<void, std::string> start(const setup& on, const pattern& payload,
                                       const contest_order& wanted, entrant& e,
                                       std::map<storage, std::string>& sources) {
  const std::string parent = parent_of(on, e.which);
  if (parent.empty()) return std::unexpected("no such storage here");
  if (wanted.size.connections > e.which.connections_max) {
    return std::unexpected(
        fmt::format("meant for {} connections at most", e.which.connections_max));
  }
  auto place = scratch::make(parent);
  if (!place) return std::unexpected(place.error());
  e.place = std::move(*place);
  e.directory = e.place.folder("objects");
  if (wanted.towards == direction::download && e.which.peer != "sink") {
    auto made = share_source(payload, e, sources);
    if (!made) return made;
  }
  const server_order order{wanted.mode, e.directory, e.place.folder("server")};
  e.seen.command = command_of(on, e.which, order);
  auto started = server::start(on, e.which, order);
  if (!started) return std::unexpected(started.error());
  e.running.emplace(std::move(*started));
  return {};
}

// Downloads discard what they get in the timed window; here it is compared.
std::expected<void, std::string> verify_download(const pattern& payload, const entrant& e) {
  request_form form = e.form;
  form.verify = true;
  auto load = load_generator::connect(form, payload, e.running->port(), 1);
  if (!load) return std::unexpected(load.error());
  closed_load once;
  once.requests = 1;
  const auto done = load->run(once);
  if (!done) return std::unexpected(done.error());
  return {};
}

std::expected<void, std::string> verify(const pattern& payload, const entrant& e,
                                        std::uint64_t first_id) {
  if (e.which.peer == "sink") return {};
  if (e.form.towards == direction::download) return verify_download(payload, e);
  auto verdict = verify_and_retire(payload, e.directory, {first_id, e.objects, e.form.object_bytes},
                                   e.retired);
  if (e.settles) sync_filesystem(e.directory);  // the next run does not pay for this one
  return verdict;
}

// One run, verified. The connections are made before the clock starts.
std::expected<figures, std::string> run_once(const pattern& payload, entrant& e) {
  auto load = load_generator::connect(e.form, payload, e.running->port(), e.seen.connections);
  if (!load) return std::unexpected(load.error());
  let_accept(e.seen.connections);
  closed_load wanted;
  wanted.first_id = e.next_id;
  wanted.requests = e.objects;
  e.next_id += e.objects;
  measurement around(*e.running);
  const double start = seconds_now();
  auto done = load->run(wanted);
  if (!done) return std::unexpected(done.error());
  double seconds = done->seconds;
  if (e.which.sync_at_end) {
    sync_filesystem(e.directory);
    seconds = seconds_now() - start;
  }
  figures seen = around.finish(seconds, done->requests, done->requests * e.form.object_bytes);
  if (auto said = claim_in(done->answer_head)) e.seen.claimed = said;
  if (auto right = verify(payload, e, wanted.first_id); !right)
    return std::unexpected(right.error());
  return seen;
}

void give_up(entrant& e, const std::string& why) {
  e.seen.unavailable = why;
  e.running.reset();
  tell(fmt::format("  {}: n/a: {}", e.which.name, why));
}

std::optional<figures> run_or_give_up(const pattern& payload, entrant& e) {
  if (!e.running) return std::nullopt;
  auto seen = run_once(payload, e);
  if (seen) return *seen;
  give_up(e, seen.error());
  return std::nullopt;
}

void run_timed(const pattern& payload, std::vector<entrant>& all, unsigned runs) {
  for (unsigned turn = 0; turn < runs; ++turn) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      entrant& e = all[turn % 2 == 0 ? i : all.size() - 1 - i];
      if (const auto seen = run_or_give_up(payload, e)) e.seen.runs.push_back(*seen);
    }
  }
}

// What the meter saw of one process, where the events it sums can see this way's copies at all.
bool copies_visible(const setup& on, const entrant& e) {
  const copy_source source = can_measure_copies(on).source;
  if (source == copy_source::functions) return true;
  return source == copy_source::tracepoints && e.form.towards == direction::upload &&
         e.which.kept != storage::tmpfs && filesystem_of(e.directory) == "ext4";
}

void count(const setup& on, const pattern& payload, std::vector<entrant>& all) {
  auto meter = copy_meter::start(on);
  for (entrant& e : all) {
    if (!e.running) continue;
    const call_tracer tracer(e.running->pid());
    if (!run_or_give_up(payload, e)) continue;
    const double mib = static_cast<double>(e.seen.bytes) / bytes_per_mib;
    const auto per_mib = [mib](std::optional<double> calls) -> std::optional<double> {
      return calls ? std::optional(*calls / mib) : std::nullopt;
    };
    e.seen.counted["syscalls_per_mib"] = per_mib(tracer.system_calls());
    e.seen.counted["io_wq_per_mib"] = per_mib(tracer.worker_handoffs());
  }
  std::map<pid_t, double> copied;
  if (meter) copied = meter->finish();
  for (entrant& e : all) {
    std::optional<double> per_byte;
    if (meter && e.running && copies_visible(on, e)) {
      per_byte = copied[e.running->pid()] / static_cast<double>(e.seen.bytes);
    }
    e.seen.counted["copies_measured"] = per_byte;
  }
}

std::vector<entrant> line_up(const setup& on, const pattern& payload, const contest_order& wanted) {
  std::vector<entrant> all;
  std::map<storage, std::string> sources;
  for (const way& which : wanted.ways) {
    const bool synced = which.durable && wanted.towards == direction::upload;
    const std::uint64_t objects = synced ? wanted.size.objects : wanted.size.objects_unsynced;
    all.push_back(entrant{which, on.retired, scratch::none(), "", std::nullopt,
                          form_of(wanted, which), objects, 0, empty_row(wanted, which, objects),
                          on.how_much != effort::tiny});
    if (auto started = start(on, payload, wanted, all.back(), sources); !started) {
      give_up(all.back(), started.error());
    }
  }
  return all;
}

void finish(entrant& e) {
  if (!e.running) return;
  const bool bare = e.which.peer == "sink";
  if (auto said = e.running->stop(); said && !bare) {
    e.seen.claimed = said;
    if (said->enters_per_mib) e.seen.counted["enters_per_mib"] = said->enters_per_mib;
  }
  e.running.reset();
  e.seen.verified = !bare && e.seen.unavailable.empty() && !e.seen.runs.empty();
  // What the planner chose by itself is known only now.
  if (e.which.ours() && e.which.settings.empty() && e.seen.claimed &&
      e.seen.claimed->path == "direct" && e.seen.kept == storage::page_cache) {
    e.seen.kept = storage::direct;
  }
}

}  // namespace

std::vector<row> hold_contest(const setup& on, const pattern& payload,
                              const contest_order& wanted) {
  std::vector<entrant> all = line_up(on, payload, wanted);
  for (entrant& e : all) static_cast<void>(run_or_give_up(payload, e));  // warm-up
  run_timed(payload, all, on.runs);
  if (wanted.count_pass) count(on, payload, all);
  std::vector<row> rows;
  for (entrant& e : all) {
    finish(e);
    rows.push_back(std::move(e.seen));
  }
  return rows;
}

noise measure_noise(const setup& on, const pattern& payload, const contest_order& wanted) {
  contest_order twice = wanted;
  twice.count_pass = false;
  twice.ways = {wanted.ways.front(), wanted.ways.front()};
  const std::vector<row> rows = hold_contest(on, payload, twice);
  return noise_between(rows[0], rows[1]);
}

}  // namespace bench
