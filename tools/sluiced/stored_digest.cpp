#include "stored_digest.hpp"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "dictionary.hpp"

namespace sluiced {

namespace {

constexpr const char* attribute = "user.sluice.repr-digest";
constexpr std::size_t attribute_bytes_max = 512;  // `of` and one digest of each algorithm: 220

std::string mark_of(const sluice::file_info& info) {
  return fmt::format("{:x}-{:x}", info.bytes, static_cast<std::uint64_t>(info.modified_ns));
}

bool is_of(std::string_view value, const sluice::file_info& info) {
  const std::optional<std::vector<member>> members = parse_dictionary(value);
  if (!members) return false;
  const auto found = std::ranges::find(*members, "of", &member::key);
  return found != members->end() && found->kind == item_kind::string &&
         found->value == mark_of(info);
}

}  // namespace

void store_digests(int fd, const sluice::file_info& info, std::span<const digest> verified) {
  if (verified.empty()) return;
  const std::string value = fmt::format("of=\"{}\", {}", mark_of(info), format_digests(verified));
  [[maybe_unused]] const int kept = ::fsetxattr(fd, attribute, value.data(), value.size(), 0);
}

std::vector<digest> stored_digests(int fd, const sluice::file_info& info) {
  std::array<char, attribute_bytes_max> buffer{};
  const ssize_t bytes = ::fgetxattr(fd, attribute, buffer.data(), buffer.size());
  if (bytes <= 0) return {};
  const std::string_view value(buffer.data(), static_cast<std::size_t>(bytes));
  if (!is_of(value, info)) return {};
  return parse_digests(value).value_or(std::vector<digest>{});
}

}  // namespace sluiced
