#include "journal.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace sluiced {

bool has_journal(std::string_view options) {
  return options.starts_with("data=") || options.find("\ndata=") != std::string_view::npos;
}

std::optional<std::string> durability_doubt(const std::string& root) {
  struct stat info{};
  if (::stat(root.c_str(), &info) != 0) return std::nullopt;
  std::error_code problem;
  const std::filesystem::path device = std::filesystem::read_symlink(
      fmt::format("/sys/dev/block/{}:{}", major(info.st_dev), minor(info.st_dev)), problem);
  if (problem) return std::nullopt;
  std::ifstream file("/proc/fs/ext4/" + device.filename().string() + "/options");
  const std::string options{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (options.empty() || has_journal(options)) return std::nullopt;
  return fmt::format(
      "{} is on an ext4 without a journal ({}), which may lose uploads that were answered as "
      "durable when the power fails; give it a journal (tune2fs -O has_journal, unmounted)",
      root, device.filename().string());
}

}  // namespace sluiced
