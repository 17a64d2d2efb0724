#include "http_servers.hpp"

#include <fmt/format.h>

#include <utility>

#include "counters.hpp"
#include "load.hpp"

namespace bench {

namespace {

constexpr std::uint64_t counted_requests = 1000;

const std::vector<way> http_ways = {
    {.name = "sluiced",
     .peer = "sluiced",
     .durable = false,
     .settings = {"sluice.http.idle_timeout_ms=600000"}},
    {.name = "nginx, one worker", .peer = "nginx", .durable = false},
};

bool answers_right(const pattern& payload, const http_server& of) {
  request_form form = get_source(of.seen.object_bytes);
  form.verify = true;
  auto load = load_generator::connect(form, payload, of.running->port(), 1);
  closed_load once;
  once.requests = 1;
  return load && load->run(once);
}

void count_calls(const pattern& payload, http_server& of) {
  auto load = load_generator::connect(get_source(of.seen.object_bytes), payload, of.running->port(),
                                      of.seen.connections);
  if (!load) return;
  let_accept(of.seen.connections);
  const call_tracer tracer(of.running->pid());
  closed_load wanted;
  wanted.requests = counted_requests;
  if (!load->run(wanted)) return;
  const auto per_request = [](std::optional<double> calls) -> std::optional<double> {
    return calls ? std::optional(*calls / static_cast<double>(counted_requests)) : std::nullopt;
  };
  of.seen.counted["syscalls_per_request"] = per_request(tracer.system_calls());
  of.seen.counted["io_wq_per_request"] = per_request(tracer.worker_handoffs());
}

}  // namespace

request_form get_source(std::uint64_t object_bytes) {
  request_form form;
  form.speaks = dialect::http;
  form.towards = direction::download;
  form.object_bytes = object_bytes;
  return form;
}

http_server start_http_server(const setup& on, const pattern& payload, const way& which,
                              std::uint64_t object_bytes, unsigned connections) {
  http_server made;
  made.seen.way = which.name;
  made.seen.peer = which.peer;
  made.seen.kept = which.kept;
  made.seen.ours = which.ours();
  made.seen.object_bytes = object_bytes;
  made.seen.connections = connections;
  auto place = scratch::make(on.directory);
  if (!place) {
    made.seen.unavailable = place.error();
    return made;
  }
  made.place = std::move(*place);
  const server_order order{"send", made.place.folder("objects"), made.place.folder("server")};
  made.seen.command = command_of(on, which, order);
  if (auto source = make_source(payload, order.directory + "/source", object_bytes); !source) {
    made.seen.unavailable = source.error();
    return made;
  }
  auto started = server::start(on, which, order);
  if (started) {
    made.running.emplace(std::move(*started));
  } else {
    made.seen.unavailable = started.error();
  }
  return made;
}

std::vector<http_server> start_http_servers(const setup& on, const pattern& payload,
                                            std::uint64_t object_bytes, unsigned connections) {
  std::vector<http_server> all;
  for (const way& which : http_ways) {
    if (which.name.find(on.only) == std::string::npos) continue;
    all.push_back(start_http_server(on, payload, which, object_bytes, connections));
  }
  return all;
}

row end_http_server(const pattern& payload, http_server& of) {
  if (of.running) {
    count_calls(payload, of);
    of.seen.verified = answers_right(payload, of);
    of.running->stop();
    of.running.reset();
  }
  return std::move(of.seen);
}

}  // namespace bench
