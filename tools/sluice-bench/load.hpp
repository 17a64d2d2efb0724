// The load generator: many connections over loopback from one thread, in a closed or an open loop.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "exchange.hpp"
#include "pattern.hpp"

namespace bench {

// How many requests there are to make in a closed loop: until both are reached.
struct closed_load {
  std::uint64_t first_id = 0;
  std::uint64_t requests = 0;
  double seconds = 0;  // 0: `requests` is the end
};

// Requests at times that do not wait for answers: what users do who know nothing of each other.
struct open_load {
  double requests_per_second = 0;
  double seconds = 0;
  std::uint64_t seed = 1;  // the same seed is the same schedule
};

struct load_outcome {
  double seconds = 0;  // from the first byte sent to the last answer
  std::uint64_t requests = 0;
  std::uint64_t first_id = 0;
  std::string answer_head;           // http: of the last answer
  std::vector<double> latencies_us;  // open loop: from the scheduled start, sorted
};

// Connected sockets, kept over several runs. Single-threaded; no work per byte is done here but the
// system calls', unless the form asks to verify.
class load_generator {
 public:
  // Connects `connections` times to 127.0.0.1:port.
  static std::expected<load_generator, std::string> connect(const request_form& form,
                                                            const pattern& payload,
                                                            std::uint16_t port,
                                                            unsigned connections);
  load_generator(load_generator&&) noexcept;
  load_generator& operator=(load_generator&&) noexcept;
  ~load_generator();

  // Each connection makes its next request when the last was answered.
  std::expected<load_outcome, std::string> run(const closed_load& wanted);
  // Poisson arrivals; a request waits for a free connection when all are busy, and that counts.
  std::expected<load_outcome, std::string> run(const open_load& wanted);

 private:
  struct state;
  explicit load_generator(std::unique_ptr<state> made);
  std::unique_ptr<state> state_;
};

// A blocking socket to 127.0.0.1:port without Nagle's delay; -1 with errno set.
[[nodiscard]] int connect_to(std::uint16_t port);

// Time for the peer to accept what was connected: threads are made, none of it is timed.
void let_accept(unsigned connections);

}  // namespace bench
