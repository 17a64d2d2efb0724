// One server to be measured: ours, a peer's program, nginx, or the sink; started and stopped alike.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "child.hpp"
#include "counters.hpp"
#include "exchange.hpp"
#include "setup.hpp"

namespace bench {

// What holds the data of a way.
enum class storage : std::uint8_t {
  direct,      // O_DIRECT
  page_cache,  // buffered
  tmpfs,
  none,  // discarded: the limit of the network
};
[[nodiscard]] const char* name(storage kept);

// One way to do a case's work: a line of the comparison.
struct way {
  std::string name;
  std::string peer;  // serve, sluiced, nginx, haproxy, socat, sink, or a program of bench-peers
  storage kept = storage::page_cache;
  bool durable = true;
  std::vector<std::string> settings = {};   // knob=value, for serve and sluiced
  bool quick = true;                        // a part of --quick too
  bool sampled = false;                     // only at the samples: see combination
  unsigned connections_max = 4096;          // above it the way makes no sense
  bool sync_at_end = false;                 // the server cannot sync: one syncfs inside the clock
  std::vector<std::string> arguments = {};  // more of its command line
  bool forks = false;                       // a process for each connection

  [[nodiscard]] bool ours() const { return peer == "serve" || peer == "sluiced"; }
  [[nodiscard]] bool speaks_http() const { return peer == "sluiced" || peer == "nginx"; }
};

// What a receipt says of a server's last transfer.
struct claim {
  std::string path;
  std::string reason;
  double copies = 0;
  std::optional<double> enters_per_mib{};  // of the engine's ring, over all its transfers
};

// How a server is to be started.
struct server_order {
  std::string mode;        // of serve_main
  std::string directory;   // of the objects, or of the source
  std::string scratch;     // for its own files, on the same filesystem
  std::string target{};    // relay: ADDR:PORT
  std::uint16_t port = 0;  // to listen at, for a program that gets it on its command line
};

// Move-only; the destructor ends the process.
class server {
 public:
  // The reason when it cannot be: no such program, it refused its options, it did not listen.
  static std::expected<server, std::string> start(const setup& on, const way& which,
                                                  server_order order);

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] pid_t pid() const { return process_->pid(); }
  [[nodiscard]] bool alive() const;
  [[nodiscard]] const process_counters& counters() const { return *counters_; }
  // Its work is in processes that come and go: only the counters, which they inherit, see it all.
  [[nodiscard]] bool forks() const { return forks_; }
  // SIGTERM, then its end. What serve printed about itself.
  std::optional<claim> stop();

 private:
  server() = default;
  std::unique_ptr<process_counters> counters_ = std::make_unique<process_counters>();
  std::optional<child> process_;
  std::uint16_t port_ = 0;
  bool forks_ = false;
};

// The command of a server, without starting it: what the results page shows as fair settings.
[[nodiscard]] std::vector<std::string> command_of(const setup& on, const way& which,
                                                  const server_order& order);

// From a Sluice-Receipt field of sluiced.
[[nodiscard]] std::optional<claim> claim_in(const std::string& answer_head);

}  // namespace bench
