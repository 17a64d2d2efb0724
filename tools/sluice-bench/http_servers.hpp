// sluiced and nginx with the same one file to GET: the servers of the cases gets, latency and idle.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exchange.hpp"
#include "outcome.hpp"
#include "pattern.hpp"
#include "place.hpp"
#include "server.hpp"
#include "setup.hpp"

namespace bench {

struct http_server {
  scratch place = scratch::none();
  std::optional<server> running;  // nothing when it cannot run: the row says why
  row seen;
};

[[nodiscard]] request_form get_source(std::uint64_t object_bytes);

[[nodiscard]] http_server start_http_server(const setup& on, const pattern& payload,
                                            const way& which, std::uint64_t object_bytes,
                                            unsigned connections);
// One engine of sluiced, one worker of nginx; those that --only keeps.
[[nodiscard]] std::vector<http_server> start_http_servers(const setup& on, const pattern& payload,
                                                          std::uint64_t object_bytes,
                                                          unsigned connections);
// Counts system calls over some requests, compares one answer byte by byte, ends the server.
[[nodiscard]] row end_http_server(const pattern& payload, http_server& of);

}  // namespace bench
