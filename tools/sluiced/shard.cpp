#include "shard.hpp"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

#include "connection.hpp"
#include "control.hpp"

namespace sluiced {

namespace {

constexpr std::size_t sink_bytes = 64 * 1024;
// So many at a time are told that there are too many; beyond that a connection is closed unheard.
constexpr std::size_t refusing_max = 64;
constexpr std::chrono::milliseconds accept_pause{100};
constexpr std::chrono::seconds quiet_time{1};  // before memory is given back

// All engines choose their backend alike: the first one says which and why.
sluice::log_callback log_of(unsigned index) {
  return [index](sluice::log_level level, std::string_view text) {
    if (level != sluice::log_level::info || index == 0) say(text);
  };
}

start_failure explain_root(const std::string& path, const sluice::error& problem) {
  std::string_view what = "make it a directory that this user may read and write";
  if (problem.code == ENOENT) what = "there is no such directory; create it or name another";
  if (problem.code == ENOTDIR) what = "this is not a directory; name one";
  return {1, fmt::format("--root {}: {} ({})", path, what, sluice::describe(problem))};
}

start_failure explain_listen(const std::string& address, const sluice::error& problem) {
  if (problem.code == EINVAL)
    return {2, fmt::format("--listen {}: this is no ADDR:PORT; write 127.0.0.1:8080, [::1]:8080, "
                           "or :8080 for all addresses",
                           address)};
  std::string_view what = "choose another address or port";
  if (problem.code == EADDRINUSE) what = "somebody listens there already; choose another port";
  if (problem.code == EACCES) what = "this port needs a privilege; choose one from 1024 on";
  if (problem.code == EADDRNOTAVAIL) what = "this machine does not have that address";
  return {1, fmt::format("--listen {}: {} ({})", address, what, sluice::describe(problem))};
}

start_failure explain_control(const std::string& path, const sluice::error& problem) {
  std::string_view what = "name a path in a directory that this user may write";
  if (problem.code == EADDRINUSE) what = "a running process listens there; name another";
  if (problem.code == EEXIST) what = "there is something that is no socket; name another";
  if (problem.code == ENAMETOOLONG) what = "a socket's path has at most 100 bytes";
  if (problem.code == ENOENT) what = "there is no such directory; create it or name another";
  return {1, fmt::format("--control {}: {} ({})", path, what, sluice::describe(problem))};
}

}  // namespace

connection::connection(shard& home, sluice::stream& peer, purpose why)
    : home_(home), peer_(peer), why_(why) {
  home_.connection_begins(why_);
}

connection::~connection() {
  wake();
  home_.connection_ended(why_);
}

void connection::rest() {
  home_.idle_.push_back(*this);
  home_.note_quiet();
  // The end of the server may have come while this connection was busy.
  if (home_.stopping_) static_cast<void>(peer_.shutdown(SHUT_RD));
}

void connection::wake() {
  if (!is_linked()) return;
  home_.idle_.erase(shard::idle_list::s_iterator_to(*this));
  home_.spare_.note(home_.busy());
}

shard::shard(unsigned index, sluice::knobs knobs, std::uint64_t descriptors, const fleet& all,
             path_locks& locks)
    : index_(index),
      knobs_(std::move(knobs)),
      all_(all),
      locks_(locks),
      descriptors_(descriptors),
      limits_(limits_from(knobs_)),
      sink_(sink_bytes) {}

settings shard::limits_from(const sluice::knobs& knobs) const {
  settings limits = settings_from(knobs);
  limits.connections_max = std::min(limits.connections_max, connections_within(descriptors_));
  return limits;
}

std::expected<void, start_failure> shard::start(const std::string& root, const std::string& address,
                                                bool reuse_port) {
  sluice::result<sluice::engine> made = sluice::engine::create(knobs_, log_of(index_));
  if (!made)
    return std::unexpected(
        start_failure{1, fmt::format("cannot start an engine: {}; see sluicectl probe, or lower "
                                     "sluice.memory.arena_bytes",
                                     sluice::describe(made.error()))});
  engine_.emplace(std::move(*made));
  const std::expected<void, start_failure> opened = open_root(root);
  if (!opened) return opened;

  sluice::listen_options options;
  options.backlog = limits_.backlog;
  options.reuse_port = reuse_port;
  if (reuse_port && index_ == 0) {
    const std::expected<void, start_failure> alone = check_address_is_free(address);
    if (!alone) return alone;
  }
  sluice::result<sluice::listener> listening = sluice::listener::open(*engine_, address, options);
  if (!listening) return std::unexpected(explain_listen(address, listening.error()));
  listener_.emplace(std::move(*listening));
  return {};
}

std::expected<void, start_failure> shard::open_root(const std::string& path) {
  std::optional<sluice::error> problem;
  engine_->start(sluice::directory::open(*engine_, path),
                 [this, &problem](sluice::result<sluice::directory> opened) {
                   if (opened)
                     root_ = std::move(*opened);
                   else
                     problem = opened.error();
                 });
  engine_->run();
  if (problem) return std::unexpected(explain_root(path, *problem));
  return {};
}

// SO_REUSEPORT would share the port with another server of the same user, who hears of it last.
std::expected<void, start_failure> shard::check_address_is_free(const std::string& address) {
  const sluice::result<sluice::listener> probe = sluice::listener::open(*engine_, address);
  if (!probe) return std::unexpected(explain_listen(address, probe.error()));
  return {};
}

std::expected<void, start_failure> shard::open_control(const std::string& path) {
  sluice::result<sluice::control_socket> opened =
      sluice::control_socket::open(*engine_, path, control_of(*this));
  if (!opened) return std::unexpected(explain_control(path, opened.error()));
  control_.emplace(std::move(*opened));
  return {};
}

sluice::result<void> shard::set_knob(std::string_view name, std::string_view value) {
  sluice::result<void> set = engine_->set_knob(name, value);
  if (set) limits_ = limits_from(engine_->settings());
  return set;
}

void shard::run() {
  share_suspects();
  accepting_ = engine_->spawn(accept_loop());
  if (control_) controlling_ = engine_->spawn(sluice::serve(std::move(*control_)));
  if (index_ == 0) sweeping_ = engine_->spawn(sweep_root());
  engine_->run();
}

// The error of a disk is told to one sync, perhaps of this engine alone.
void shard::share_suspects() {
  engine_->on_suspect([this](std::uint64_t device) {
    for (const auto& one : all_) {
      if (one.get() == this) continue;
      one->engine().post([&other = *one, device] { other.engine().add_suspect(device); });
    }
  });
}

void shard::stop() {
  engine_->post([this] { begin_stop(); });
}

void shard::close() {
  if (engine_) engine_->on_suspect({});  // the others may be gone
  listener_.reset();
  control_.reset();
  root_ = sluice::directory();
  engine_.reset();
}

sluice::task<void> shard::accept_loop() {
  while (!stopping_) {
    auto accepted = co_await listener_->accept();
    if (accepted) {
      admit(std::move(*accepted));
      continue;
    }
    if (accepted.error().code == ECANCELED) break;
    if (!explain_accept(accepted.error())) continue;
    const auto rested = co_await engine_->sleep_for(accept_pause);
    if (!rested) break;
  }
  listener_->close();
}

// What processes left that were killed in the middle of an upload. Beside the first requests: a
// large tree takes its time.
sluice::task<void> shard::sweep_root() {
  const auto swept = co_await sluice::sweep_temporaries(root_);
  if (swept && swept->removed > 0)
    say(fmt::format("removed {} temporary names that an ended process had left", swept->removed));
}

void shard::admit(sluice::stream peer) {
  tally::add(counts_.connections);
  if (!full() || retire_idle())
    engine_->spawn(serve_connection(*this, std::move(peer)));
  else if (refusing_ < refusing_max)
    engine_->spawn(refuse_connection(*this, std::move(peer)));
}

// A ring watches so many connections that wait and no more: the next one would not be heard.
std::uint64_t shard::connections_of_engine() const {
  return std::min<std::uint64_t>(limits_.connections_max, engine_->waits_max());
}

// The limit is of the process: each shard looks at all. Two that look at once may both admit.
bool shard::full() const {
  if (tally::get(counts_.serving) >= connections_of_engine()) return true;
  std::uint64_t serving = 0;
  for (const auto& one : all_) serving += tally::get(one->counts().serving);
  return serving >= limits_.connections_max;
}

// A connection that only waits makes room for one that has something to say. False: none does.
bool shard::retire_idle() {
  if (idle_.empty()) return false;
  connection& oldest = idle_.front();
  oldest.wake();
  static_cast<void>(oldest.peer().shutdown(SHUT_RDWR));
  return true;
}

// Whether to pause. What a peer did to its own connection is no reason to.
bool shard::explain_accept(const sluice::error& problem) {
  switch (problem.code) {
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case EAGAIN:
    case EINTR: return false;
    default: break;
  }
  retire_idle();
  complaints_.say("cannot accept",
                  fmt::format("cannot accept: {}; pausing. Raise the limit of open files "
                              "(ulimit -n) or lower sluice.http.connections_max",
                              sluice::describe(problem)));
  return true;
}

void shard::begin_stop() {
  if (stopping_) return;
  stopping_ = true;
  engine_->cancel(accepting_);
  engine_->cancel(sweeping_);
  if (giving_back_) engine_->cancel(*giving_back_);
  engine_->cancel(controlling_);  // now, so that a successor gets its name while we finish
  for (connection& idle : idle_) static_cast<void>(idle.peer().shutdown(SHUT_RD));
  if (!has_connections()) return;
  if (limits_.grace.count() == 0)
    engine_->cancel_all();
  else
    grace_ = engine_->spawn(grace_time());
}

sluice::task<void> shard::grace_time() {
  const auto over = co_await engine_->sleep_for(limits_.grace);
  if (over) engine_->cancel_all();
}

std::uint64_t shard::busy() const {
  return tally::get(counts_.serving) - std::min(idle_.size(), tally::get(counts_.serving));
}

void shard::note_quiet() {
  if (!giving_back_ && !stopping_ && spare_.is_left(busy()))
    giving_back_ = engine_->spawn(give_memory_back());
}

// The next rush may be on its way: not before it has been quiet for a while. By a worker, for it
// takes milliseconds.
sluice::task<void> shard::give_memory_back() {
  const auto rested = co_await engine_->sleep_for(quiet_time);
  if (rested && spare_.is_left(busy())) {
    spare_.given_back(busy());
    const auto trimmed = co_await engine_->run_on_worker(
        [](void*) -> std::int64_t { return ::malloc_trim(0); }, nullptr);
    static_cast<void>(trimmed);
  }
  giving_back_.reset();
}

bool shard::has_connections() const { return tally::get(counts_.connections_open) > 0; }

void shard::connection_begins(purpose why) {
  tally::add(counts_.connections_open);
  if (why == purpose::serve)
    tally::add(counts_.serving);
  else
    ++refusing_;
}

void shard::connection_ended(purpose why) {
  tally::subtract(counts_.connections_open);
  if (why == purpose::serve)
    tally::subtract(counts_.serving);
  else
    --refusing_;
  if (stopping_ && !has_connections() && grace_) engine_->cancel(*grace_);
  note_quiet();
}

}  // namespace sluiced
