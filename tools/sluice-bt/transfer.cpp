// The commands get and seed: an engine, a session, signals.
#include <fmt/format.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <expected>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "commands.hpp"
#include "progress.hpp"
#include "session.hpp"
#include "sluice/engine.hpp"
#include "sluice/knobs.hpp"
#include "torrent_file.hpp"
#include "wire.hpp"

namespace bt {

namespace {

constexpr int status_failed = 1;
constexpr int status_usage = 2;
constexpr std::chrono::milliseconds progress_time{250};
constexpr std::uint64_t descriptors_to_get = 4;  // of a file: two of its writer, its directory
constexpr std::uint64_t descriptors_to_seed = 1;
constexpr std::uint64_t descriptors_to_read_direct = 1;
constexpr std::uint64_t descriptors_of_ours = 300;

// False: the command line says nonsense.
bool apply_settings(sluice::knobs& knobs, const std::vector<std::string>& settings) {
  bool sound = true;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == setting.npos) {
      say(fmt::format("--set {}: write it as knob=value", setting));
      sound = false;
      continue;
    }
    const std::string name = setting.substr(0, equals);
    const std::string value = setting.substr(equals + 1);
    const sluice::result<void> set = knobs.set(name, value);
    if (set) continue;
    say(fmt::format("--set {}: {}", setting, sluice::explain_refusal(name, value, set.error())));
    sound = false;
  }
  for (const std::string& conflict : knobs.conflicts()) {
    say(conflict);
    sound = false;
  }
  const auto block = knobs.get("sluice.memory.block_bytes");
  if (block && std::stoull(*block) < request_bytes_max) {
    say(fmt::format("sluice.memory.block_bytes={}: BitTorrent needs {} at least", *block,
                    request_bytes_max));
    sound = false;
  }
  return sound;
}

// HOST:PORT to addresses; the host may be a name, or an IPv6 address in brackets.
std::expected<peer_address, std::string> resolve(const std::string& given) {
  const std::size_t colon = given.rfind(':');
  if (colon == given.npos || colon == 0 || colon + 1 == given.size())
    return std::unexpected(fmt::format("--peer {}: write it as HOST:PORT", given));
  std::string host = given.substr(0, colon);
  const std::string port = given.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem = getaddrinfo(host.c_str(), port.c_str(), &wanted, &found);
  if (problem != 0)
    return std::unexpected(fmt::format("--peer {}: {}", given, gai_strerror(problem)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> held(found, freeaddrinfo);
  peer_address peer{given, {}};
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    char text[NI_MAXHOST] = "";
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) !=
        0)
      continue;
    peer.addresses.push_back(one->ai_family == AF_INET6 ? fmt::format("[{}]:{}", text, port)
                                                        : fmt::format("{}:{}", text, port));
  }
  if (peer.addresses.empty())
    return std::unexpected(fmt::format("--peer {}: it has no address", given));
  return peer;
}

// False: the torrent has too many files for the descriptors that there are.
bool can_open(std::size_t files, bool fetch, cache_choice cache) {
  const std::uint64_t limit = raise_descriptor_limit();
  const std::uint64_t each = (fetch ? descriptors_to_get : descriptors_to_seed) +
                             (cache == cache_choice::direct ? descriptors_to_read_direct : 0);
  const std::uint64_t needed = files * each + descriptors_of_ours;
  if (needed <= limit) return true;
  say(fmt::format("a torrent of {} files needs {} open files; raise the limit of {} (ulimit -n)",
                  files, needed, limit));
  return false;
}

// Blocked in every thread made from here on.
sigset_t block_signals() {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  return ending;
}

void print_line(std::FILE* to, const std::string& text) {
  fmt::print(to, "{}\n", text);
  std::fflush(to);
}

// What there is while a command runs; the engine goes last.
class running {
 public:
  running(sluice::engine engine, const metainfo& of, session_options options)
      : of_(of),
        fetch_(options.fetch),
        engine_(std::move(engine)),
        session_(engine_, of, std::move(options), events()) {}

  int run(const sigset_t& ending) {
    try {
      signals_ = std::thread([this, ending] { wait_for_signals(ending); });
    } catch (const std::system_error& refused) {
      say(fmt::format("cannot start a thread: {}", refused.code().message()));
      return status_failed;
    }
    if (isatty(STDERR_FILENO) == 1) engine_.spawn(show());
    session_.start();
    engine_.run();
    ended_ = true;
    pthread_kill(signals_.native_handle(), SIGTERM);
    signals_.join();
    return conclude();
  }

 private:
  session_events events() {
    session_events told;
    told.listening = [](const std::string& at) { print_line(stdout, "listening on " + at); };
    told.begun = [this] { progress_.begin(session_.stats()); };
    told.notice = [this](const std::string& text) {
      clear_line();
      say(text);
    };
    return told;
  }

  // The first signal ends the session; the second one the process, unless that had ended anyway.
  void wait_for_signals(sigset_t ending) {
    int number = 0;
    while (sigwait(&ending, &number) != 0) continue;
    if (ended_) return;
    engine_.post([this] { session_.stop(); });
    while (sigwait(&ending, &number) != 0) continue;
    if (!ended_) _exit(status_failed);
  }

  sluice::task<void> show() {
    while (!session_.ending()) {
      const std::string text = progress_.line(session_);
      fmt::print(stderr, "\r\x1b[K{}", text);
      shown_ = true;
      co_await engine_.sleep_for(progress_time);
    }
  }

  void clear_line() {
    if (std::exchange(shown_, false)) fmt::print(stderr, "\r\x1b[K");
  }

  int conclude() {
    clear_line();
    if (!session_.failure().empty()) {
      say(session_.failure());
      return status_failed;
    }
    if (fetch_ && !session_.complete()) {
      say("interrupted; the same command goes on from here");
      return status_failed;
    }
    print_line(stdout, progress_.last_line(session_, of_.name, fetch_));
    return 0;
  }

  const metainfo& of_;
  const bool fetch_;
  progress progress_;
  bool shown_ = false;
  std::atomic<bool> ended_ = false;
  std::thread signals_;
  sluice::engine engine_;
  session session_;
};

}  // namespace

int transfer(const command_line& given, bool fetch) {
  const auto of = read_torrent(given.torrent);
  if (!of) {
    say(of.error());
    return status_failed;
  }
  sluice::knobs knobs = sluice::knobs::from_files();
  if (!apply_settings(knobs, given.settings)) return status_usage;
  const cache_choice cache = given.cache == "direct" ? cache_choice::direct : cache_choice::cached;
  session_options options{.fetch = fetch,
                          .directory = given.directory,
                          .peers = {},
                          .listen = given.listen,
                          .cache = cache,
                          .give_up = std::chrono::seconds(given.give_up_seconds),
                          .answer = std::chrono::seconds(given.answer_seconds),
                          .keep_alive = std::chrono::seconds(given.keep_alive_seconds)};
  for (const std::string& one : given.peers) {
    auto address = resolve(one);
    if (!address) {
      say(address.error());
      return status_usage;
    }
    options.peers.push_back(*std::move(address));
  }
  const auto on_disk = std::ranges::count(of->files, false, &metainfo_file::pad);
  if (!can_open(static_cast<std::size_t>(on_disk), fetch, cache)) return status_failed;
  const sigset_t ending = block_signals();
  sluice::result<sluice::engine> engine = sluice::engine::create(knobs);
  if (!engine) {
    say(fmt::format("cannot start an engine: {}", sluice::describe(engine.error())));
    return status_failed;
  }
  return running(*std::move(engine), *of, std::move(options)).run(ending);
}

}  // namespace bt
