#include "haproxy.hpp"

#include <fmt/format.h>

#include <fstream>

#include "nginx.hpp"

namespace bench {

namespace {

// splice-auto is what its documentation advises for transfers of any length; the pipes have the
// size of ours, for its own default is a quarter of that.
constexpr const char* conf = R"(global
  nbthread 1
  maxconn 4096
  tune.pipesize 262144
defaults
  mode tcp
  option splice-auto
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen relay
  bind 127.0.0.1:{port} backlog 4096
  server target {target}
)";

}  // namespace

std::expected<std::uint16_t, std::string> write_haproxy_conf(const std::string& directory,
                                                             const std::string& target) {
  const std::uint16_t port = free_port();
  std::ofstream out(directory + "/haproxy.cfg");
  out << fmt::format(fmt::runtime(conf), fmt::arg("port", port), fmt::arg("target", target));
  out.close();
  if (port == 0 || !out) return std::unexpected("haproxy.cfg cannot be written");
  return port;
}

}  // namespace bench
