// The command make.
#include <fmt/format.h>
#include <sys/resource.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "commands.hpp"
#include "torrent_file.hpp"

namespace bt {

namespace {

constexpr int status_failed = 1;
constexpr int status_usage = 2;
constexpr std::uint64_t piece_bytes_least = 16 << 10;
constexpr std::uint64_t piece_bytes_most = 64 << 20;

}  // namespace

int make_torrent(const command_line& given) {
  const std::uint64_t each = given.piece_bytes;
  if (!std::has_single_bit(each) || each < piece_bytes_least || each > piece_bytes_most) {
    say(fmt::format("--piece-bytes {}: a power of two from 16K to 64M", each));
    return status_usage;
  }
  raise_descriptor_limit();  // all files are open at once
  const auto described = describe_path(given.path, each);
  if (!described) {
    say(described.error());
    return status_failed;
  }
  std::ofstream out(given.torrent, std::ios::binary | std::ios::trunc);
  out << *described;
  out.close();
  if (!out) {
    say(fmt::format("{}: {}", given.torrent, std::strerror(errno)));
    return status_failed;
  }
  return 0;
}

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return RLIM_INFINITY;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  return limit.rlim_max;
}

void say(const std::string& text) {
  fmt::print(stderr, "sluice-bt: {}\n", text);
  std::fflush(stderr);
}

}  // namespace bt
