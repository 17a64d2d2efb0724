#include "nginx.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace bench {

namespace {

// master_process off: one process that does the work, so that its CPU and memory are all of it.
// client_body_temp_path on the same filesystem: the upload is renamed, not copied a second time.
constexpr const char* conf = R"(daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{
  worker_connections 16384;
  multi_accept on;
}}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 256k;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {root};
    location / {{
      dav_methods PUT DELETE;
    }}
  }}
}}
)";

constexpr unsigned descriptors_wanted = 20'000;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t bytes = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), bytes) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0;
  ::close(fd);
  return bound ? ntohs(address.sin_port) : std::uint16_t{0};
}

std::expected<std::uint16_t, std::string> write_nginx_conf(const std::string& directory,
                                                           const std::string& root) {
  const std::uint16_t port = free_port();
  std::ofstream out(directory + "/nginx.conf");
  out << fmt::format(fmt::runtime(conf), fmt::arg("dir", directory), fmt::arg("root", root),
                     fmt::arg("port", port), fmt::arg("descriptors", descriptors_wanted));
  out.close();
  if (port == 0 || !out) return std::unexpected("nginx.conf cannot be written");
  return port;
}

bool wait_for_port(std::uint16_t port, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port);
    const bool connected =
        ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    if (connected) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace bench
