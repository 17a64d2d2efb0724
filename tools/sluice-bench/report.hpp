// The results for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "outcome.hpp"
#include "setup.hpp"

namespace bench {

// One aligned table per combination of size and connections, on stdout.
void print(const outcome& all);

struct record {
  std::vector<std::string> command;
  std::string started;  // ISO 8601, UTC
  std::vector<outcome> cases;
};

// Schema 1; figures that could not be counted are null. False: the file cannot be written.
[[nodiscard]] bool write_json(const setup& on, const record& all);

[[nodiscard]] std::string time_now();  // ISO 8601, UTC

}  // namespace bench
