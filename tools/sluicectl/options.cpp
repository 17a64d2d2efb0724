#include "options.hpp"

#include <CLI/CLI.hpp>

namespace sluicectl {

std::optional<std::pair<std::string, std::string>> assignment(const std::string& word) {
  const std::size_t equals = word.find('=');
  if (equals == word.npos) return std::nullopt;
  return std::pair(CLI::detail::trim_copy(word.substr(0, equals)),
                   CLI::detail::trim_copy(word.substr(equals + 1)));
}

}  // namespace sluicectl
