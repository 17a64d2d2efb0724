#include "setup.hpp"

#include <fmt/format.h>

#include <cstdio>

#include "child.hpp"

namespace bench {

std::optional<std::string> setup::program(const std::string& name) const {
  return find_program(name, program_directories);
}

void tell(const std::string& text) {
  fmt::print(stderr, "{}\n", text);
  std::fflush(stderr);
}

}  // namespace bench
