#include "session.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace bt {

using sluice::result;
using sluice::task;

namespace {

constexpr std::chrono::seconds connect_time{10};
constexpr std::chrono::milliseconds pause_time{500};  // before a peer is tried again, and longer
constexpr std::chrono::milliseconds accept_pause{100};
constexpr unsigned attempts_max = 3;  // in a row, without a handshake
constexpr std::size_t callers_max = 200;
constexpr std::size_t blocks_per_caller = 4;  // one to send from, one to receive into, and some
constexpr std::chrono::milliseconds watch_time{500};

// As BEP 20 has it, and the rest random, so that a peer knows who it is twice.
peer_id make_id() {
  constexpr std::string_view client = "-SU0100-";
  peer_id id{};
  static_cast<void>(getrandom(id.data(), id.size(), 0));
  std::memcpy(id.data(), client.data(), client.size());
  return id;
}

std::uint64_t knob_of(const sluice::engine& on, std::string_view name) {
  const auto text = on.settings().get(name);
  return text ? std::stoull(*text) : 0;
}

std::uint64_t held_bytes(const sluice::engine& on) {
  return knob_of(on, "sluice.memory.arena_bytes") / 4;
}

// Without the port, which is another one each time it calls.
std::string origin_of(const sluice::stream& caller) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (getpeername(caller.fd(), any, &length) != 0) return {};
  char text[INET6_ADDRSTRLEN] = "";
  const void* number =
      address.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(any)->sin6_addr)
          : &reinterpret_cast<sockaddr_in*>(any)->sin_addr;
  inet_ntop(address.ss_family, number, text, sizeof text);
  return text;
}

// No more than leave blocks for everybody else when each of them is slow.
std::size_t callers_within(const sluice::engine& on) {
  const std::uint64_t block = knob_of(on, "sluice.memory.block_bytes");
  const std::uint64_t blocks = knob_of(on, "sluice.memory.arena_bytes") / std::max(block, 1UL);
  return std::clamp<std::size_t>(blocks / blocks_per_caller, 1, callers_max);
}

}  // namespace

session::session(sluice::engine& on, const metainfo& of, session_options options,
                 session_events events)
    : engine_(on),
      info_(of),
      options_(std::move(options)),
      events_(std::move(events)),
      layout_(of.layout()),
      id_(make_id()),
      picker_(layout_),
      last_words_(options_.peers.size()) {}

session::~session() = default;

void session::start() { keep(engine_.spawn(open())); }

task<void> session::open() {
  store::opened opened;
  if (options_.fetch) {
    opened = co_await store::open_to_write(engine_, info_, options_.directory);
  } else {
    opened = co_await store::open_to_read(engine_, info_, options_.directory);
  }
  if (!opened) co_return fail(opened.error());
  store_ = std::move(*opened);
  if (options_.cache == cache_choice::direct) {
    const std::string refused = co_await store_->open_direct();
    if (!refused.empty() && !ending_) events_.notice(refused);
  }
  checker_ = std::make_unique<piece_checker>(engine_, *store_, info_.pieces, held_bytes(engine_));
  checker_->on_verdict([this](std::uint32_t piece, piece_checker::verdict v) { judge(piece, v); },
                       [this](const sluice::error& problem) { fail(sluice::describe(problem)); });
  if (!ending_) check_disk();
}

// ---- what is on the disk

void session::check_disk() {
  if (!store_->found_content()) return begin();
  survey_.emplace(engine_, *store_, info_.pieces,
                  options_.fetch ? disk_survey::purpose::resume : disk_survey::purpose::seed);
  survey_->start(
      [this](std::uint32_t piece) {
        picker_.verified(piece);
        stats_.found_bytes += layout_.bytes_of(piece);
      },
      [this](const result<void>& done) {
        if (ending_) return;
        if (done) return begin();
        fail(fmt::format("reading what is there: {}", sluice::describe(done.error())));
      });
}

void session::begin() {
  if (events_.begun) events_.begun();
  if (options_.fetch && picker_.complete()) {
    ending_ = true;
    engine_.spawn(finish());
    return;
  }
  if (!options_.fetch && picker_.have_count() == 0)
    return fail(fmt::format("nothing in {} is what the torrent says", options_.directory));
  if (!options_.fetch && !picker_.complete())
    events_.notice(
        fmt::format("{} of {} pieces are what the torrent says; the others are not "
                    "given out",
                    picker_.have_count(), layout_.pieces()));
  if (!options_.listen.empty() && !listen()) return;
  connectors_ = options_.peers.size();
  if (options_.fetch) keep(engine_.spawn(watch()));
  for (std::size_t i = 0; i < options_.peers.size() && !ending_; ++i)
    keep(engine_.spawn(connect(i)));
}

// ---- peers

bool session::listen() {
  result<sluice::listener> opened = sluice::listener::open(engine_, options_.listen);
  if (!opened) {
    fail(fmt::format("cannot listen on {}: {}", options_.listen, sluice::describe(opened.error())));
    return false;
  }
  listener_.emplace(std::move(*opened));
  if (events_.listening) events_.listening(listener_->address());
  keep(engine_.spawn(accept_all()));
  return true;
}

task<void> session::accept_all() {
  while (!ending_) {
    result<sluice::stream> caller = co_await listener_->accept();
    // One that was accepted although it is the end is not begun with: nobody would end it.
    if (caller && !ending_ && callers_.size() < callers_within(engine_)) {
      std::string origin = origin_of(*caller);
      if (blame_.ban_of(origin) != nullptr) continue;
      const source_id id = ++last_id_;
      blame_.connected(id, std::move(origin));
      callers_[id] =
          engine_.start(answer(*std::move(caller), id), [this, id] { callers_.erase(id); });
    } else if (!caller && !ending_) {
      co_await engine_.sleep_for(accept_pause);  // out of descriptors or memory
    }
  }
}

task<void> session::answer(sluice::stream caller, source_id id) {
  auto made = std::make_shared<peer>(*this, std::move(caller), "a caller", id);
  const peer_end ended = co_await peer::run(made, who_called::they);
  forget_unless_of_use(id, ended);
  if (!ending_ && ended.hopeless) events_.notice(fmt::format("a caller: {}", ended.why));
}

void session::forget_unless_of_use(source_id id, const peer_end& ended) {
  if (ended.received_bytes == 0) blame_.forget(id);
}

// The first of its addresses that answers; none that is banned.
task<result<sluice::stream>> session::call(const peer_address& to, source_id id) {
  result<sluice::stream> connected = sluice::fail(ECANCELED, "connect", "session");
  for (const std::string& address : to.addresses) {
    if (ending_ || blame_.ban_of(address) != nullptr) continue;
    task<result<sluice::stream>> connecting =
        sluice::stream::connect(engine_, address, connect_time);
    connected = co_await connecting;
    if (!connected) continue;
    blame_.connected(id, address);
    break;
  }
  co_return connected;
}

// Whether it makes sense to try again. `why`: how it ended.
task<bool> session::try_once(const peer_address& to, std::string& why, bool& was_of_use) {
  const source_id id = ++last_id_;
  result<sluice::stream> connected = co_await call(to, id);
  if (!connected) {
    why = sluice::describe(connected.error());
    co_return true;
  }
  auto made = std::make_shared<peer>(*this, *std::move(connected), to.given, id);
  peer_end ended = co_await peer::run(made, who_called::we);
  forget_unless_of_use(id, ended);
  why = std::move(ended.why);
  was_of_use = ended.received_bytes > 0;
  co_return !ended.hopeless;
}

task<void> session::connect(std::size_t which) {
  const peer_address& to = options_.peers[which];
  std::string why;
  unsigned attempts = 0;
  bool again = true;
  while (again && !ending_ && attempts < attempts_max) {
    if (attempts > 0) co_await engine_.sleep_for(pause_time * attempts);
    if (ending_) break;
    const auto is_banned = [this](const std::string& a) { return blame_.ban_of(a) != nullptr; };
    if (std::ranges::all_of(to.addresses, is_banned)) {
      why = *blame_.ban_of(to.addresses.front());
      break;
    }
    bool was_of_use = false;
    again = co_await try_once(to, why, was_of_use);
    // One that was of use deserves patience.
    attempts = was_of_use ? 1 : attempts + 1;
  }
  connector_ended(which, why);
}

void session::connector_ended(std::size_t which, const std::string& why) {
  --connectors_;
  if (ending_) return;
  last_words_[which] = fmt::format("{}: {}", options_.peers[which].given, why);
  if (connectors_ > 0 || listener_) return events_.notice(last_words_[which]);
  fail_without_peers();
}

// Nobody is left to ask, and nobody can come. What was received whole may still prove right: judge
// says so, or comes back here.
void session::fail_without_peers() {
  if (connectors_ > 0 || listener_ || !options_.fetch) return;
  if (picker_.received_all() && !checker_->idle()) return;
  std::string all = fmt::format("no peer is left, {} of {} pieces are here", picker_.have_count(),
                                layout_.pieces());
  for (const std::string& words : last_words_) all.append("\n  ").append(words);
  fail(all);
}

void session::joined(std::shared_ptr<peer> who) {
  const source_id id = who->id();
  if (const std::string* ban = blame_.ban_of(id); ban != nullptr) who->close(*ban, true);
  peers_.emplace(id, std::move(who));
  ++stats_.peers;
}

void session::left(source_id who) {
  if (peers_.erase(who) > 0) --stats_.peers;
}

peer* session::find(source_id who) {
  const auto at = peers_.find(who);
  return at == peers_.end() ? nullptr : at->second.get();
}

void session::ask_all() {
  for (const auto& [id, one] : peers_) one->ask();
}

// Nothing comes because of our disk or our memory.
bool session::stalled_here() const {
  const auto waits = [](const auto& one) { return one.second->waits_for_us(); };
  return !checker_->idle() || std::ranges::any_of(peers_, waits);
}

// Most blocks of the pool are leased, small ones counted as well. Shares that wait to be hashed may
// be what holds them, though not many bytes wait.
bool session::memory_runs_short() const {
  const std::uint64_t block = knob_of(engine_, "sluice.memory.block_bytes");
  const std::uint64_t blocks = knob_of(engine_, "sluice.memory.arena_bytes") / std::max(block, 1UL);
  const auto leased = engine_.counters().get("sluice.memory.leases_in_use");
  return leased && *leased > blocks / 4 * 3;
}

patience::sight session::look() const {
  return {stats_.received_bytes, picker_.blocks_here(), stalled_here()};
}

task<void> session::watch() {
  patience left(options_.give_up, layout_.piece_bytes(), look(), clock::now());
  while (!ending_) {
    co_await engine_.sleep_for(watch_time);
    if (ending_) co_return;
    const patience::verdict verdict = left.look(look(), clock::now());
    if (!left.something_came() || memory_runs_short()) checker_->run_ready();
    if (verdict != patience::verdict::wait) give_up(verdict);
  }
}

void session::give_up(patience::verdict why) {
  const auto longer = patience::times_longer * options_.give_up;
  std::string what;
  switch (why) {
    case patience::verdict::wait: return;
    case patience::verdict::nothing_stays:
      what = fmt::format("nothing that peers sent for {} s was of use", longer.count());
      break;
    case patience::verdict::nothing_taken:
      what = fmt::format("the disk has not taken what peers sent for {} s", longer.count());
      break;
    case patience::verdict::nothing_comes:
      what = fmt::format("no peer has sent anything for {} s", options_.give_up.count());
      break;
  }
  fail(fmt::format("{}; {} of {} pieces are here", what, picker_.have_count(), layout_.pieces()));
}

// ---- pieces

void session::judge(std::uint32_t piece, piece_checker::verdict verdict) {
  if (ending_) return;
  if (verdict == piece_checker::verdict::wrong) return found_wrong(piece);
  picker_.verified(piece);
  for (const auto& [id, one] : peers_) one->announce(piece);
  if (picker_.complete()) {
    ending_ = true;
    engine_.spawn(finish());
  } else if (blame_.remembers(piece)) {
    engine_.spawn(compare(piece));
  }
}

// Of several senders nobody knows yet who it was.
void session::found_wrong(std::uint32_t piece) {
  ++stats_.rejected_pieces;
  std::vector<source_id> senders = picker_.senders(piece);
  const source_id first = senders.front();
  if (std::ranges::count(senders, first) < std::ssize(senders)) {
    engine_.spawn(remember(piece, std::move(senders)));
    return;
  }
  accuse(first, piece);
  fetch_again(piece);
}

void session::accuse(source_id sender, std::uint32_t piece) {
  std::string reason = fmt::format("it sent wrong bytes for piece {}", piece);
  if (store_->has_pad(layout_.piece_offset(piece), layout_.bytes_of(piece)))
    reason += ", or a pad file of the torrent is not of zeroes";
  blame_.ban(sender, std::move(reason));
  for (const auto& [id, one] : peers_) {
    if (const std::string* why = blame_.ban_of(id); why != nullptr) one->close(*why, true);
  }
}

void session::fetch_again(std::uint32_t piece) {
  picker_.rejected(piece);
  ask_all();
  fail_without_peers();
}

// The piece is not asked for before: what comes then takes the place of what was sent.
task<void> session::remember(std::uint32_t piece, std::vector<source_id> senders) {
  piece_checker::digests sent = co_await checker_->block_digests(piece);
  if (!sent) co_return fail(sluice::describe(sent.error()));
  if (ending_) co_return;
  blame_.remember(piece, std::move(senders), *std::move(sent));
  fetch_again(piece);
}

// It has come right, so that whoever had sent something else in it is known.
task<void> session::compare(std::uint32_t piece) {
  const piece_checker::digests right = co_await checker_->block_digests(piece);
  if (!right) co_return fail(sluice::describe(right.error()));
  for (const source_id guilty : blame_.compare(piece, *right)) accuse(guilty, piece);
}

// ---- the end

void session::fail(const std::string& why) {
  if (!failure_.empty() || ending_) return;
  failure_ = why;
  stop();
}

void session::unreadable(std::uint32_t piece, const sluice::error& why) {
  if (ending_ || !unreadable_.insert(piece).second) return;
  events_.notice(fmt::format("piece {} cannot be read, who asks for it is cut off: {}", piece,
                             sluice::describe(why)));
}

void session::stop() {
  if (std::exchange(ending_, true)) return;
  engine_.spawn(finish());
}

// What was received is not lost, even when the rest does not come.
task<void> session::finish() {
  if (store_ && options_.fetch) {
    const result<void> done = co_await store_->commit();
    if (!done) {
      if (!failure_.empty()) failure_ += "\n  ";
      failure_ += fmt::format("the files may not be whole: {}", sluice::describe(done.error()));
    }
  }
  end();
}

void session::end() {
  if (survey_) survey_->stop();
  for (const sluice::task_handle task : tasks_) engine_.cancel(task);
  for (const auto& [id, one] : peers_) one->close("the end", false);
  for (const auto& [id, task] : callers_) engine_.cancel(task);
}

}  // namespace bt
