// nginx as a peer: one worker with the settings its own documentation advises for large files.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <string>

namespace bench {

// Writes DIRECTORY/nginx.conf for serving and taking files of `root`; the port it will listen on.
[[nodiscard]] std::expected<std::uint16_t, std::string> write_nginx_conf(
    const std::string& directory, const std::string& root);

// Until something accepts at 127.0.0.1:port.
[[nodiscard]] bool wait_for_port(std::uint16_t port, std::chrono::milliseconds timeout);

// A port nobody listens at now, for programs that cannot choose one themselves.
[[nodiscard]] std::uint16_t free_port();

}  // namespace bench
