// The case copy: one file into another on the same filesystem, from the page cache to the page
// cache; no way syncs.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "measure.hpp"
#include "place.hpp"
#include "sluice/engine.hpp"
#include "sluice/file_copy.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t island_bytes = 64 << 10;  // of data, in a file full of holes
constexpr std::chrono::minutes cp_timeout(5);
constexpr double cpu_resolution = 1e-6;

struct contender {
  const char* name;
  const char* peer;
  const char* path;    // sluice.copy.path, or
  const char* option;  // an option of cp, or none
};
constexpr contender contenders[] = {
    {"sluice", "file_copy", "auto", nullptr},
    {"sluice, copy_file_range", "file_copy", "copy_file_range", nullptr},
    {"sluice, read and write", "file_copy", "copy", nullptr},
    {"cp", "cp", nullptr, nullptr},
    {"cp --reflink=never", "cp", nullptr, "--reflink=never"},
};

struct work {
  const pattern* payload = nullptr;
  std::string source;
  std::string target;
  std::uint64_t bytes = 0;   // of the file
  std::uint64_t stride = 0;  // from one island to the next; 0: no holes
};

std::uint64_t data_at(const work& of, std::uint64_t offset) {
  if (of.stride == 0) return std::min<std::uint64_t>(pattern::piece_max, of.bytes - offset);
  return std::min(island_bytes, of.bytes - offset);
}

bool make_file(const work& of) {
  const int fd = ::open(of.source.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool whole = fd >= 0 && ::ftruncate(fd, static_cast<off_t>(of.bytes)) == 0;
  for (std::uint64_t at = 0; whole && at < of.bytes;) {
    const auto piece = of.payload->piece(0, at, data_at(of, at));
    whole = ::pwrite(fd, piece.data(), piece.size(), static_cast<off_t>(at)) ==
            static_cast<ssize_t>(piece.size());
    at += of.stride == 0 ? piece.size() : of.stride;
  }
  whole = whole && ::fsync(fd) == 0;
  ::close(fd);
  return whole;
}

// As long, with every byte of data in place, and as full of holes.
bool is_whole(const work& of) {
  const int fd = ::open(of.target.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat copy{};
  struct stat source{};
  bool whole = fd >= 0 && ::fsync(fd) == 0 && ::fstat(fd, &copy) == 0 &&
               ::stat(of.source.c_str(), &source) == 0 &&
               static_cast<std::uint64_t>(copy.st_size) == of.bytes &&
               copy.st_blocks <= source.st_blocks + source.st_blocks / 8 + 1024;
  std::vector<std::byte> piece(pattern::piece_max);
  for (std::uint64_t at = 0; whole && at < of.bytes;) {
    const auto seen = std::span(piece).first(data_at(of, at));
    whole = ::pread(fd, seen.data(), seen.size(), static_cast<off_t>(at)) ==
                static_cast<ssize_t>(seen.size()) &&
            of.payload->matches(0, at, seen);
    at += of.stride == 0 ? seen.size() : of.stride;
  }
  ::close(fd);
  return whole;
}

sluice::task<void> copy_once(sluice::engine& e, const work& of, std::optional<claim>& made) {
  made.reset();
  const int source = ::open(of.source.c_str(), O_RDONLY | O_CLOEXEC);
  const int target = ::open(of.target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  auto from = sluice::file::adopt(e, source);
  auto into = sluice::file::adopt(e, target);
  if (!from || !into) co_return;
  const sluice::copy_options whole{.length = of.bytes};
  const auto copied = co_await sluice::copy_file(*from, *into, whole);
  if (copied) {
    made = {sluice::name(copied->path), copied->reason, static_cast<double>(copied->copies)};
  }
}

bool run_cp(const setup& on, const contender& who, const work& of) {
  std::vector<std::string> command = {on.program("cp").value_or("cp")};
  if (who.option != nullptr) command.emplace_back(who.option);
  command.insert(command.end(), {of.source, of.target});
  return output_of(command, cp_timeout).has_value();
}

// One run into a file that is not there yet. Nothing: a reason is in `seen` now.
std::optional<figures> run_once(const setup& on, const contender& who, const work& of,
                                sluice::engine& e, row& seen) {
  const bool ours = who.path != nullptr;
  if (ours) {
    if (!e.set_knob("sluice.copy.path", who.path)) seen.unavailable = "no such path";
  }
  const auto machine = machine_cpu_seconds();
  const auto own = process_cpu_seconds(::getpid());
  const double children = children_cpu_seconds();
  const double start = seconds_now();
  if (ours) {
    e.spawn(copy_once(e, of, seen.claimed));
    e.run();
    if (!seen.claimed) seen.unavailable = "failed";
  } else if (!run_cp(on, who, of)) {
    seen.unavailable = "cp is not here, or failed";
  }
  const double seconds = seconds_now() - start;
  const auto used = ours ? cpu_between(own, process_cpu_seconds(::getpid()), cpu_resolution)
                         : cpu_between(children, children_cpu_seconds(), cpu_resolution);
  const auto busy = cpu_between(machine, machine_cpu_seconds(), machine_cpu_resolution);
  if (seen.unavailable.empty() && !is_whole(of)) seen.unavailable = "wrong bytes, or holes filled";
  ::unlink(of.target.c_str());
  if (!seen.unavailable.empty()) return std::nullopt;
  const auto bytes = static_cast<double>(of.bytes);
  return figures{{"seconds", seconds},
                 {"mib_per_second", bytes / bytes_per_mib / seconds},
                 {"cpu_s_per_gib.process", ratio(used, bytes / bytes_per_gib)},
                 {"cpu_s_per_gib.machine", ratio(busy, bytes / bytes_per_gib)}};
}

row row_of(const contender& who, const work& of) {
  row seen;
  seen.way = who.name;
  seen.peer = who.peer;
  seen.kept = storage::page_cache;
  seen.ours = who.path != nullptr;
  seen.object_bytes = of.bytes;
  seen.bytes = of.bytes;
  seen.connections = 1;
  if (who.option != nullptr) seen.command = {"cp", who.option};
  return seen;
}

std::vector<const contender*> chosen(const setup& on) {
  std::vector<const contender*> kept;
  for (const contender& one : contenders) {
    if (std::string(one.name).find(on.only) != std::string::npos) kept.push_back(&one);
  }
  return kept;
}

std::vector<row> hold(const setup& on, const std::vector<const contender*>& who, const work& of,
                      sluice::engine& e) {
  std::vector<row> rows;
  rows.reserve(who.size());
  for (const contender* one : who) rows.push_back(row_of(*one, of));
  if (!make_file(of)) {
    for (row& seen : rows) seen.unavailable = "the source could not be made";
  }
  // The first run of each warms up.
  for (unsigned turn = 0; turn <= on.runs; ++turn) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t which = turn % 2 == 0 ? i : rows.size() - 1 - i;
      row& seen = rows[which];
      if (!seen.unavailable.empty()) continue;
      const auto figures_of_run = run_once(on, *who[which], of, e, seen);
      if (figures_of_run && turn > 0) seen.runs.push_back(*figures_of_run);
    }
  }
  ::unlink(of.source.c_str());
  for (row& seen : rows) seen.verified = seen.unavailable.empty();
  return rows;
}

}  // namespace

outcome run_copy(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "copy";
  all.columns = {"mib_per_second", "cpu_s_per_gib.process", "cpu_s_per_gib.machine",
                 "of_best_peer.throughput", "of_best_peer.cpu"};
  const auto place = scratch::make(on.directory);
  auto engine = sluice::engine::create();
  const bool tiny = on.how_much == effort::tiny;
  const std::uint64_t dense = tiny ? 4 * mib : 1024 * mib;
  if (!place || !engine || free_bytes(on.directory) < 3 * dense) {
    all.notes.emplace_back("left out: no engine, or too few bytes free");
    return all;
  }
  all.notes.push_back(fmt::format(
      "{} MiB of data, then {} MiB with {} KiB of data in each MiB; in the page cache, no sync",
      dense / mib, 2 * dense / mib, island_bytes >> 10));
  const std::string source = place->path() + "/source";
  const std::string target = place->path() + "/target";
  const auto who = chosen(on);
  const work whole{&payload, source, target, dense, 0};
  const work holes{&payload, source, target, 2 * dense, mib};
  if (!who.empty() && on.how_much != effort::quick) {
    const std::vector<row> twice = hold(on, {who.front(), who.front()}, whole, *engine);
    all.floor = noise_between(twice[0], twice[1]);
  }
  for (const work& of : {whole, holes}) {
    std::ranges::move(hold(on, who, of, *engine), std::back_inserter(all.rows));
  }
  compare(all);
  return all;
}

}  // namespace bench
