#include "copies.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <thread>
#include <vector>

#include "counters.hpp"

namespace bench {

namespace {

constexpr std::chrono::seconds start_timeout(30);
constexpr std::chrono::milliseconds signal_delay(300);  // see works()

// Each of these moves the bytes itself and returns how many; none calls another of them.
// copy_folio_from_iter_atomic has been copy_page_from_iter_atomic before Linux 6.15.
constexpr std::array copy_functions = {
    "_copy_to_iter",
    "_copy_from_iter",
    "_copy_from_iter_nocache",
    "_copy_from_iter_flushcache",
    "copy_folio_from_iter_atomic",
    "copy_page_from_iter_atomic",
    "copy_page_to_iter_nofault",
};

struct length_event {
  const char* tracepoint;
  const char* field;
};
constexpr std::array copy_tracepoints = {
    length_event{"skb:skb_copy_datagram_iovec", "len"},
    length_event{"ext4:ext4_da_write_end", "copied"},
    length_event{"ext4:ext4_write_end", "copied"},
    length_event{"ext4:ext4_journalled_write_end", "copied"},
};

// One map for each event: a map that several probes add to is looked up under one lock.
constexpr std::string_view script_begin = "BEGIN { printf(\"ready\\n\"); }";

std::set<std::string> kernel_symbols() {
  std::set<std::string> found;
  std::ifstream in("/proc/kallsyms");
  for (std::string address, type, symbol; in >> address >> type >> symbol;) {
    for (const char* wanted : copy_functions) {
      if (symbol == wanted) found.insert(symbol);
    }
    in.ignore(256, '\n');
  }
  return found;
}

std::string script_of_functions(const char* probe) {
  std::string script(script_begin);
  int number = 0;
  for (const std::string& symbol : kernel_symbols()) {
    script += fmt::format(" {}:{} {{ @m{}[pid] = sum(retval); }}", probe, symbol, number++);
  }
  return number == 0 ? "" : script;
}

std::string script_of_tracepoints() {
  std::string script(script_begin);
  int number = 0;
  for (const length_event& event : copy_tracepoints) {
    std::string path(event.tracepoint);
    path[path.find(':')] = '/';
    if (!read_tracefs("events/" + path + "/id")) continue;
    script += fmt::format(" tracepoint:{} {{ @m{}[pid] = sum(args->{}); }}", event.tracepoint,
                          number++, event.field);
  }
  return number < 2 ? "" : script;
}

// bpftrace wants tracefs where it is always mounted; where it is not, it gets a view of its own.
std::vector<std::string> command(const std::string& bpftrace, const setup& on,
                                 const std::string& script) {
  const bool mounted = ::access("/sys/kernel/tracing/events", R_OK) == 0;
  const auto unshare = on.program("unshare");
  if (mounted || !unshare) return {bpftrace, "-B", "line", "-f", "json", "-e", script};
  return {*unshare,
          "-m",
          "/bin/sh",
          "-c",
          "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$0\" -B line -f json -e \"$1\"",
          bpftrace,
          script};
}

std::optional<child> begin(const setup& on, const std::string& script) {
  const auto bpftrace = on.program("bpftrace");
  if (!bpftrace || script.empty()) return std::nullopt;
  child_options options;
  options.quiet = true;
  auto running = child::start(command(*bpftrace, on, script), options);
  if (!running) return std::nullopt;
  while (const auto line = running->read_line(start_timeout)) {
    if (line->find("ready") != std::string::npos) return std::move(*running);
  }
  return std::nullopt;
}

// Ends by itself: bpftrace loses a signal that comes right after its start.
bool works(const setup& on, const std::string& script) {
  auto running = begin(on, script.empty() ? script : script + " interval:ms:100 { exit(); }");
  return running && running->finish(start_timeout) == 0;
}

copy_ability try_all(const setup& on) {
  if (!on.program("bpftrace")) return {copy_source::none, "", "bpftrace is not here"};
  if (::geteuid() != 0) return {copy_source::none, "", "bpftrace needs root"};
  for (const char* probe : {"kretfunc", "kretprobe"}) {
    const std::string script = script_of_functions(probe);
    if (works(on, script)) return {copy_source::functions, script, ""};
  }
  const std::string script = script_of_tracepoints();
  if (works(on, script)) return {copy_source::tracepoints, script, ""};
  return {copy_source::none, "", "bpftrace can attach to nothing here"};
}

}  // namespace

const copy_ability& can_measure_copies(const setup& on) {
  static const copy_ability found = try_all(on);
  return found;
}

std::optional<copy_meter> copy_meter::start(const setup& on) {
  const copy_ability& ability = can_measure_copies(on);
  if (ability.source == copy_source::none) return std::nullopt;
  auto running = begin(on, ability.script);
  if (!running) return std::nullopt;
  return copy_meter(std::move(*running));
}

std::map<pid_t, double> copy_meter::finish() {
  std::this_thread::sleep_for(signal_delay);
  running_.signal(SIGINT);
  running_.finish(start_timeout);
  std::map<pid_t, double> copied;
  std::string text = running_.output();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const auto line = nlohmann::json::parse(text.substr(at, end - at), nullptr, false);
    at = end + 1;
    if (!line.is_object() || line.value("type", "") != "map") continue;
    for (const auto& map : line["data"]) {
      if (!map.is_object()) continue;  // an empty map
      for (const auto& [pid, bytes] : map.items()) {
        copied[std::atoi(pid.c_str())] += bytes.get<double>();
      }
    }
  }
  return copied;
}

}  // namespace bench
