// HAProxy as a peer of the relay: one thread in TCP mode that splices.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace bench {

// Writes DIRECTORY/haproxy.cfg for relaying to `target` (ADDR:PORT); the port it will listen on.
[[nodiscard]] std::expected<std::uint16_t, std::string> write_haproxy_conf(
    const std::string& directory, const std::string& target);

}  // namespace bench
