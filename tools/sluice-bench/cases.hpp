// The table of cases. A later path adds a row to it, or a way to the ways of a row.
#pragma once

#include <span>
#include <string>

#include "outcome.hpp"
#include "pattern.hpp"
#include "setup.hpp"

namespace bench {

struct bench_case {
  const char* name;
  const char* what;  // one line for people
  outcome (*run)(const setup& on, const pattern& payload);
};

[[nodiscard]] std::span<const bench_case> cases();
[[nodiscard]] const bench_case* find_case(const std::string& name);

// The rows of the table.
outcome run_receive(const setup& on, const pattern& payload);
outcome run_send(const setup& on, const pattern& payload);
outcome run_durable(const setup& on, const pattern& payload);
outcome run_idle(const setup& on, const pattern& payload);
outcome run_latency(const setup& on, const pattern& payload);
outcome run_start(const setup& on, const pattern& payload);
outcome run_gets(const setup& on, const pattern& payload);
outcome run_out_of_order(const setup& on, const pattern& payload);
outcome run_framed(const setup& on, const pattern& payload);
outcome run_relay(const setup& on, const pattern& payload);
outcome run_copy(const setup& on, const pattern& payload);
outcome run_torrent(const setup& on, const pattern& payload);

}  // namespace bench
