#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "child.hpp"
#include "counters.hpp"
#include "place.hpp"
#include "report.hpp"
#include "revision.hpp"

namespace bench {

namespace {

using json = nlohmann::ordered_json;

json or_null(std::optional<double> figure) { return figure ? json(*figure) : json(nullptr); }

// "a.b" becomes {"a": {"b": ...}}.
json of(const figures& all) {
  json made = json::object();
  for (const auto& [name, counted] : all) {
    const std::size_t dot = name.find('.');
    json& place = dot == std::string::npos ? made[name] : made[name.substr(0, dot)];
    (dot == std::string::npos ? place : place[name.substr(dot + 1)]) = or_null(counted);
  }
  return made;
}

json of(const std::optional<claim>& said) {
  if (!said) return nullptr;
  return {{"path", said->path}, {"reason", said->reason}, {"copies", said->copies}};
}

// Names in the medians that runs do not have keep null there: counted in a pass of its own.
json runs_of(const row& one) {
  json all = json::array();
  for (figures run : one.runs) {
    for (const auto& [name, ignored] : one.counted) run.emplace(name, std::nullopt);
    all.push_back(of(run));
  }
  return all;
}

json of(const row& one) {
  json made;
  made["way"] = one.way;
  made["peer"] = one.peer;
  made["ours"] = one.ours;
  made["storage"] = name(one.kept);
  made["durable"] = one.durable;
  made["bytes"] = one.bytes;
  made["object_bytes"] = one.object_bytes;
  made["connections"] = one.connections;
  made["runs"] = runs_of(one);
  made["median"] = of(one.summary());
  made["iqr"] = of(interquartile_range(one.runs));
  made["verified"] = one.verified;
  made["receipt"] = of(one.claimed);
  made["copies_measured"] = or_null(value(one.counted, "copies_measured"));
  made["unavailable"] = one.unavailable.empty() ? json(nullptr) : json(one.unavailable);
  made["command"] = one.command;
  return made;
}

json of(const limit& bound) {
  return {{"object_bytes", bound.object_bytes},
          {"connections", bound.connections},
          {"network_mib_per_second", or_null(bound.network_mib_per_second)},
          {"disk_mib_per_second", or_null(bound.disk_mib_per_second)},
          {"network_cpu_s_per_gib", or_null(bound.network_cpu_s_per_gib)},
          {"network_machine_cpu_s_per_gib", or_null(bound.network_machine_cpu_s_per_gib)},
          {"disk_cpu_s_per_gib", or_null(bound.disk_cpu_s_per_gib)},
          {"iperf3_mib_per_second", or_null(bound.iperf3_mib_per_second)},
          {"disk_tool", bound.disk_tool.empty() ? json(nullptr) : json(bound.disk_tool)}};
}

json of(const noise& floor) {
  return {{"a_a_ratio", or_null(floor.a_a_ratio)},
          {"a_a_cpu_ratio", or_null(floor.a_a_cpu_ratio)},
          {"a_a_machine_cpu_ratio", or_null(floor.a_a_machine_cpu_ratio)},
          {"way", floor.way},
          {"object_bytes", floor.object_bytes},
          {"connections", floor.connections}};
}

json of(const outcome& all) {
  json made;
  made["case"] = all.name;
  made["rows"] = json::array();
  for (const row& one : all.rows) made["rows"].push_back(of(one));
  // The last combination is the largest: its limit stands for the case.
  made["limit"] = all.limits.empty() ? json(nullptr) : of(all.limits.back());
  made["limits"] = json::array();
  for (const limit& bound : all.limits) made["limits"].push_back(of(bound));
  made["noise"] = of(all.floor);
  made["copies_unavailable"] =
      all.copies_unavailable.empty() ? json(nullptr) : json(all.copies_unavailable);
  made["notes"] = all.notes;
  return made;
}

json machine(const setup& on) {
  utsname system{};
  uname(&system);
  const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
  return {{"kernel", system.release},
          {"cpus", std::thread::hardware_concurrency()},
          {"memory_bytes", pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))},
          {"filesystem", filesystem_of(on.directory)},
          {"counters", counters_available()}};
}

// The first line with a number in it that a program says of its version, on stdout or stderr.
json version_of(const setup& on, const std::string& program, const std::string& option) {
  const auto path = on.program(program);
  if (!path) return nullptr;
  const auto text = output_of({"/bin/sh", "-c", "\"$0\" " + option + " 2>&1; true", *path},
                              std::chrono::seconds(10));
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_of("0123456789") != std::string::npos) return line;
  }
  return nullptr;
}

json versions(const setup& on) {
  json all;
  all["sluice"] = SLUICE_VERSION;
  all["nginx"] = version_of(on, "nginx", "-v");
  all["haproxy"] = version_of(on, "haproxy", "-v");
  all["socat"] = version_of(on, "socat", "-V");
  all["fio"] = version_of(on, "fio", "--version");
  all["wrk"] = version_of(on, "wrk", "-v");
  all["iperf3"] = version_of(on, "iperf3", "--version");
  all["bpftrace"] = version_of(on, "bpftrace", "--version");
  all["compiler"] = __VERSION__;
  return all;
}

}  // namespace

std::string time_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

bool write_json(const setup& on, const record& all) {
  json made;
  made["schema"] = 1;
  made["revision"] = std::string_view(SLUICE_REVISION).empty() ? json(nullptr) : SLUICE_REVISION;
  made["command"] = all.command;
  made["started"] = all.started;
  made["machine"] = machine(on);
  made["versions"] = versions(on);
  made["cases"] = json::array();
  for (const outcome& one : all.cases) made["cases"].push_back(of(one));
  std::ofstream out(on.json_file);
  out << made.dump(2) << '\n';
  out.close();
  return static_cast<bool>(out);
}

}  // namespace bench
