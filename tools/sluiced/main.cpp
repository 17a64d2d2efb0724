// sluiced: an HTTP/1.1 server that takes uploads into durable files and serves them back.
//
//   main        command line, signals, the life of the process
//   server      the threads; shard: one engine with its listener and its connections
//   connection  from the first byte to the last: heads, pipelining, deadlines
//   head_scan, request, target, conditions, range, dictionary: what the peer wants (no I/O)
//   get, put, delete, body, chunk_decoder: carrying it out
//   digest: promised, wanted and computed; stored_digest: kept with the file
//   response, failure, exchange: the answer
//   path_locks: one change of a name at a time; pace: who is too slow
//   metrics, tally: what is counted; log: what is said; control: the control socket
//   journal: whether the disk keeps its word
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "journal.hpp"
#include "log.hpp"
#include "server.hpp"
#include "settings.hpp"
#include "sluice/knobs.hpp"

namespace {

constexpr int status_failed = 1;
constexpr int status_usage = 2;
// Below this a limit of open files is worth a line at every start.
constexpr std::uint64_t few_connections = 1000;

struct command_line {
  sluiced::server_options server;
  std::vector<std::string> settings;
};

void describe(CLI::App& app, command_line& given) {
  app.add_option("--root", given.server.root, "Directory that holds the files")->required();
  app.add_option("--listen", given.server.listen,
                 "ADDR:PORT, [ADDR]:PORT, or :PORT for all addresses; port 0: the kernel chooses")
      ->required();
  app.add_option("--set", given.settings, "knob=value; `sluicectl -a` lists the knobs")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option(
         "--control", given.server.control,
         "A socket for sluicectl: shows and sets knobs, shows counters; for this user alone")
      ->type_name("SOCKET");
  app.add_option("--engines", given.server.engines, "Threads with one engine each")
      ->check(CLI::Range(1u, 256u))
      ->capture_default_str();
}

// Files and environment first: what the command line says wins. False: it says nonsense.
bool apply_settings(sluice::knobs& knobs, const std::vector<std::string>& settings) {
  bool sound = true;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == setting.npos) {
      sluiced::say(fmt::format("--set {}: write it as knob=value", setting));
      sound = false;
      continue;
    }
    const std::string name = setting.substr(0, equals);
    const std::string value = setting.substr(equals + 1);
    const sluice::result<void> set = knobs.set(name, value);
    if (set) continue;
    sluiced::say(
        fmt::format("--set {}: {}", setting, sluice::explain_refusal(name, value, set.error())));
    sound = false;
  }
  for (const std::string& conflict : knobs.conflicts()) {
    sluiced::say(conflict);
    sound = false;
  }
  return sound;
}

sluice::knobs knobs_of_machine() {
  std::vector<sluice::knob_problem> problems;
  sluice::knobs knobs = sluice::knobs::from_files(&problems);
  for (const sluice::knob_problem& problem : problems) sluiced::say(sluice::describe(problem));
  return knobs;
}

// Takes as many descriptors as the machine allows, and says when they are too few. How many.
std::uint64_t raise_descriptor_limit(const sluice::knobs& knobs) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  const std::uint64_t possible = sluiced::connections_within(limit.rlim_max);
  const auto wanted = knobs.find("sluice.http.connections_max");
  const bool asked_for = wanted && wanted->value != wanted->initial;
  const bool too_few = possible < sluiced::settings_from(knobs).connections_max;
  if (too_few && (asked_for || possible < few_connections))
    sluiced::say(
        fmt::format("{} open files allow {} connections, fewer than "
                    "sluice.http.connections_max={}; raise the limit (ulimit -n)",
                    limit.rlim_max, possible, wanted->value));
  return limit.rlim_max;
}

// Blocked in every thread made from here on; only wait_for_signals() takes them.
sigset_t block_signals() {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ending, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a reader of our output that went away
  signal(SIGXFSZ, SIG_IGN);  // a file over RLIMIT_FSIZE: its write fails with EFBIG all the same
  return ending;
}

// The first signal lets what runs finish; the second ends the process at once.
[[noreturn]] void wait_for_signals(sigset_t ending, sluiced::server& server) {
  int number = 0;
  while (sigwait(&ending, &number) != 0) continue;
  server.stop();
  while (sigwait(&ending, &number) != 0) continue;
  sluiced::say("ended at once by a second signal; running requests were cut off");
  _exit(status_failed);
}

int serve(const command_line& given, const sluice::knobs& knobs) {
  const sigset_t ending = block_signals();
  sluiced::server server(given.server, knobs);
  const auto address = server.start();
  if (!address) {
    sluiced::say(address.error().text);
    return address.error().status;
  }
  try {
    std::thread(wait_for_signals, ending, std::ref(server)).detach();
  } catch (const std::system_error& refused) {
    sluiced::say(sluiced::explain_thread(refused).text);
    return status_failed;
  }
  if (sluiced::settings_from(knobs).durability == sluice::durability::durable) {
    const std::optional<std::string> doubt = sluiced::durability_doubt(given.server.root);
    if (doubt) sluiced::say(*doubt);
  }
  sluiced::print_line(stdout, fmt::format("listening on {}", *address));
  server.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("sluiced: takes uploads into durable files and serves them back, over HTTP/1.1");
  command_line given;
  describe(app, given);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : status_usage;
  }
  sluice::knobs knobs = knobs_of_machine();
  if (!apply_settings(knobs, given.settings)) return status_usage;
  given.server.descriptors = raise_descriptor_limit(knobs);
  return serve(given, knobs);
}
