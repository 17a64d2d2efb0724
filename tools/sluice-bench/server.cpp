#include "server.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "haproxy.hpp"
#include "measure.hpp"
#include "nginx.hpp"

namespace bench {

namespace {

constexpr std::chrono::seconds start_timeout(20);
constexpr std::chrono::seconds stop_timeout(20);
constexpr unsigned socat_buffer_bytes = 256 << 10;  // as large as the pipes of the others

void add_settings(std::vector<std::string>& command, const way& which) {
  for (const std::string& setting : which.settings) {
    command.emplace_back("--set");
    command.push_back(setting);
  }
}

std::string program_of(const setup& on, const way& which) {
  if (which.peer == "serve" || which.peer == "sink") return on.self;
  return on.program(which.peer).value_or("");
}

// "listening on 127.0.0.1:PORT" -> PORT, 0 when it is not that line.
std::uint16_t port_in(const std::string& line) {
  const std::size_t colon = line.rfind(':');
  if (!line.starts_with("listening on ") || colon == std::string::npos) return 0;
  return static_cast<std::uint16_t>(std::atoi(line.c_str() + colon + 1));
}

// "cannot: WHY" -> WHY.
std::string refusal_in(const std::string& line, const std::string& peer) {
  const std::string before = "cannot: ";
  return line.starts_with(before) ? line.substr(before.size()) : peer + " did not start";
}

// By the engine's own counters; nothing without a ring.
std::optional<double> enters_per_mib(const nlohmann::json& counters) {
  const auto count = [&counters](const char* name) { return counters.value(name, 0.0); };
  const double bytes = count("sluice.receive.bytes") + count("sluice.send.bytes");
  const double enters = count("sluice.ring.enters");
  if (enters == 0 || bytes == 0) return std::nullopt;
  return enters / (bytes / bytes_per_mib);
}

std::optional<claim> claim_of_serve(const std::string& printed) {
  const auto all = nlohmann::json::parse(printed, nullptr, false);
  if (!all.is_object() || !all.contains("copies")) return std::nullopt;
  return claim{all.value("path", ""), all.value("reason", ""), all.value("copies", 0.0),
               enters_per_mib(all.value("counters", nlohmann::json::object()))};
}

}  // namespace

const char* name(storage kept) {
  switch (kept) {
    case storage::direct: return "direct";
    case storage::page_cache: return "page cache";
    case storage::tmpfs: return "tmpfs";
    case storage::none: return "none";
  }
  return "";
}

std::vector<std::string> command_of(const setup& on, const way& which, const server_order& order) {
  std::vector<std::string> command = {program_of(on, which)};
  if (which.peer == "sink") {
    const std::string mode = order.mode == "send" ? "send" : "receive";
    command.insert(command.end(), {"sink", "--mode", mode});
    return command;
  }
  if (which.peer == "sluiced") {
    command.insert(command.end(), {"--root", order.directory, "--listen", "127.0.0.1:0"});
    add_settings(command, which);
    return command;
  }
  if (which.peer == "nginx") {
    command.insert(command.end(), {"-c", order.scratch + "/nginx.conf", "-p", order.scratch});
    return command;
  }
  if (which.peer == "haproxy") {
    command.insert(command.end(), {"-db", "-f", order.scratch + "/haproxy.cfg"});
    return command;
  }
  if (which.peer == "socat") {
    // A minute for the other direction after one has ended; its own default is half a second.
    command.insert(
        command.end(),
        {"-t", "60", "-b", fmt::to_string(socat_buffer_bytes),
         fmt::format("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,fork,backlog=4096", order.port),
         "TCP:" + order.target});
    return command;
  }
  if (which.peer == "serve") command.emplace_back("serve");
  command.insert(command.end(),
                 {"--listen", "127.0.0.1:0", "--dir", order.directory, "--mode", order.mode});
  if (!order.target.empty()) command.insert(command.end(), {"--target", order.target});
  if (which.durable && order.mode != "send") command.emplace_back("--sync");
  add_settings(command, which);
  command.insert(command.end(), which.arguments.begin(), which.arguments.end());
  return command;
}

std::expected<server, std::string> server::start(const setup& on, const way& which,
                                                 server_order order) {
  if (program_of(on, which).empty()) return std::unexpected(which.peer + " is not here");
  server made;
  made.forks_ = which.forks;
  if (which.peer == "socat") made.port_ = order.port = free_port();
  if (which.peer == "nginx") {
    const auto port = write_nginx_conf(order.scratch, order.directory);
    if (!port) return std::unexpected(port.error());
    made.port_ = *port;
  }
  if (which.peer == "haproxy") {
    const auto port = write_haproxy_conf(order.scratch, order.target);
    if (!port) return std::unexpected(port.error());
    made.port_ = *port;
  }
  child_options options;
  options.before_exec = [&made](pid_t pid) { made.counters_->attach(pid); };
  auto process = child::start(command_of(on, which, order), options);
  if (!process) return std::unexpected(process.error());
  made.process_.emplace(std::move(*process));
  if (made.port_ != 0) {
    if (!wait_for_port(made.port_, start_timeout)) {
      return std::unexpected(which.peer + " does not listen");
    }
    return made;
  }
  const auto line = made.process_->read_line(start_timeout);
  made.port_ = port_in(line.value_or(""));
  if (made.port_ == 0) return std::unexpected(refusal_in(line.value_or(""), which.peer));
  return made;
}

bool server::alive() const { return process_ && ::kill(process_->pid(), 0) == 0; }

std::optional<claim> server::stop() {
  process_->signal(SIGTERM);
  process_->finish(stop_timeout);
  return claim_of_serve(process_->output());
}

std::optional<claim> claim_in(const std::string& answer_head) {
  const std::size_t field = answer_head.find("\r\nSluice-Receipt: ");
  if (field == std::string::npos) return std::nullopt;
  const std::string line =
      answer_head.substr(field + 2, answer_head.find("\r\n", field + 2) - field);
  const auto word = [&line](const std::string& key, char end) -> std::string {
    const std::size_t at = line.find(key + "=");
    if (at == std::string::npos) return "";
    const std::size_t begin = at + key.size() + 1 + (end == '"' ? 1 : 0);
    return line.substr(begin, line.find(end, begin) - begin);
  };
  return claim{word("path", ';'), word("reason", '"'), std::atof(word("copies", ';').c_str())};
}

}  // namespace bench
