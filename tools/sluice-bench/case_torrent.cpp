// The case torrent: a torrent of several files from one seeder of libtorrent, whose content lies in
// the page cache, to each client in turn. The limit is what the seeder sends to a peer that throws
// the bytes away.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <expected>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "cases.hpp"
#include "child.hpp"
#include "measure.hpp"
#include "place.hpp"
#include "usage.hpp"

namespace bench {

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::chrono::minutes client_timeout(5);
constexpr std::chrono::minutes seeder_timeout(2);  // it hashes all of its content first
constexpr const char* piece_size = "1M";
constexpr double spare = 1.25;  // times the content, which must be free where it is to be kept
constexpr double cpu_resolution = 1e-6;

struct contender {
  const char* name;
  const char* peer;
  const char* program;
  storage kept;
  bool durable;
  const char* setting;     // knob=value, or none
  bool announces = false;  // prints `ready` before and `done` after what is to be measured
  bool quick = true;       // a part of --quick too

  [[nodiscard]] bool ours() const { return std::string_view(peer) == "sluice-bt"; }
  [[nodiscard]] bool keeps() const { return kept != storage::none; }
};
constexpr const char* libtorrent = "libtorrent_peer.py";
constexpr contender contenders[] = {
    {"sluice-bt", "sluice-bt", "sluice-bt", storage::direct, true, nullptr},
    {"sluice-bt, pool", "sluice-bt", "sluice-bt", storage::direct, true, "sluice.backend=pool",
     false, false},
    {"libtorrent", "libtorrent", libtorrent, storage::page_cache, false, nullptr, true},
    {"sluice-bt, tmpfs", "sluice-bt", "sluice-bt", storage::tmpfs, false, nullptr, false, false},
    {"libtorrent, tmpfs", "libtorrent", libtorrent, storage::tmpfs, false, nullptr, true, false},
    {"thrown away", "sink", "torrent_discard", storage::none, false, nullptr},
};

// Blocks cross the borders of these.
struct content_file {
  const char* path;
  std::uint64_t bytes;
};
std::vector<content_file> files_of(std::uint64_t total) {
  const std::uint64_t first = total / 2 + 12'345;
  const std::uint64_t second = total / 4 - 777;
  return {{"a.bin", first}, {"b/b.bin", second}, {"c.bin", total - first - second}};
}

struct work {
  const pattern* payload = nullptr;
  std::string torrent;
  std::string folder;  // the content's parent
  std::uint64_t bytes = 0;
  std::vector<content_file> files;
};
constexpr const char* content_name = "content";

bool make_file(const pattern& payload, std::uint64_t id, const std::string& path,
               std::uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool whole = fd >= 0;
  for (std::uint64_t at = 0; whole && at < bytes;) {
    const auto piece = payload.piece(id, at, bytes - at);
    whole = ::write(fd, piece.data(), piece.size()) == std::ssize(piece);
    at += piece.size();
  }
  ::close(fd);
  return whole;
}

// The content and its .torrent; empty, or why not.
std::string make_torrent(const setup& on, const work& of) {
  const std::string content = of.folder + "/" + content_name;
  std::error_code ignored;
  std::filesystem::create_directories(content + "/b", ignored);
  for (std::size_t i = 0; i < of.files.size(); ++i) {
    const content_file& file = of.files[i];
    if (!make_file(*of.payload, i, content + "/" + file.path, file.bytes))
      return "the content could not be made";
  }
  sync_filesystem(of.folder);
  const auto maker = on.program("sluice-bt");
  if (!maker) return "sluice-bt is not built";
  const bool made =
      output_of({*maker, "make", of.torrent, content, "--piece-bytes", piece_size}, seeder_timeout)
          .has_value();
  return made ? "" : "sluice-bt make failed";
}

bool is_whole(const pattern& payload, std::uint64_t id, const std::string& path,
              std::uint64_t bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat found{};
  bool whole =
      fd >= 0 && ::fstat(fd, &found) == 0 && static_cast<std::uint64_t>(found.st_size) == bytes;
  std::vector<std::byte> piece(pattern::piece_max);
  for (std::uint64_t at = 0; whole && at < bytes;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    const auto seen = std::span(piece).first(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    whole = got > 0 && payload.matches(id, at, seen);
    at += seen.size();
  }
  ::close(fd);
  return whole;
}

bool all_whole(const work& of, const std::string& folder) {
  for (std::size_t i = 0; i < of.files.size(); ++i) {
    const std::string path = folder + "/" + content_name + "/" + of.files[i].path;
    if (!is_whole(*of.payload, i, path, of.files[i].bytes)) return false;
  }
  return true;
}

// Its stderr is thrown away.
std::expected<child, std::string> start_quietly(const std::vector<std::string>& command) {
  child_options options;
  options.quiet = true;
  return child::start(command, options);
}

// Gives the content to all clients.
struct seeder {
  child running;
  std::string address;

  static std::optional<seeder> start(const setup& on, const work& of) {
    const auto program = on.program(libtorrent);
    if (!program) return std::nullopt;
    auto started = start_quietly({*program, "seed", of.torrent, of.folder});
    if (!started) return std::nullopt;
    const std::string before = "listening on ";
    const auto line = started->read_line(seeder_timeout);
    if (!line || !line->starts_with(before)) return std::nullopt;
    return seeder{std::move(*started), line->substr(before.size())};
  }
};

std::vector<std::string> command_of(const contender& who, const std::string& program,
                                    const work& of, const std::string& to,
                                    const std::string& address) {
  if (!who.keeps()) return {program, of.torrent, address};
  if (!who.ours()) return {program, "get", of.torrent, to, address};
  std::vector<std::string> all = {program, "get", of.torrent, "--peer", address, "--out", to};
  if (who.setting != nullptr) all.insert(all.end(), {"--set", who.setting});
  return all;
}

// Clock and CPU around one client, from its start to its end. One that announces has an interpreter
// to start, and is measured between its two lines.
class stretch {
 public:
  explicit stretch(const seeder& from) : from_(from) { begin(0); }

  // Whether the client ended well.
  bool run(child& client, bool announces) {
    if (announces) {
      if (client.read_line(client_timeout) != "ready") return false;
      const auto own = process_cpu_seconds(client.pid());
      begin(own.value_or(0));
      if (client.read_line(client_timeout) != "done") return false;
      end(process_cpu_seconds(client.pid()));
    }
    const bool ended_well = client.finish(client_timeout) == 0;
    if (!announces) end(children_cpu_seconds() - children_);
    return ended_well;
  }

  [[nodiscard]] figures of(std::uint64_t bytes) const {
    const double gib = static_cast<double>(bytes) / bytes_per_gib;
    return {{"seconds", seconds_},
            {"mib_per_second", static_cast<double>(bytes) / bytes_per_mib / seconds_},
            {"cpu_s_per_gib.process", ratio(used_, gib)},
            {"cpu_s_per_gib.machine", ratio(busy_, gib)},
            {"seeder_cpu_s_per_gib", ratio(seeder_used_, gib)}};
  }

 private:
  void begin(double own) {
    own_ = own;
    children_ = children_cpu_seconds();
    seeder_ = process_cpu_seconds(from_.running.pid());
    machine_ = machine_cpu_seconds();
    start_ = seconds_now();
  }
  void end(std::optional<double> own) {
    seconds_ = seconds_now() - start_;
    used_ = cpu_between(own_, own, cpu_resolution);
    seeder_used_ = cpu_between(seeder_, process_cpu_seconds(from_.running.pid()), cpu_resolution);
    busy_ = cpu_between(machine_, machine_cpu_seconds(), machine_cpu_resolution);
  }

  const seeder& from_;
  double start_ = 0, seconds_ = 0, own_ = 0, children_ = 0;
  std::optional<double> used_, seeder_, seeder_used_, machine_, busy_;
};

// One download into a folder of its own. Nothing: a reason is in `seen` now.
std::optional<figures> run_once(const setup& on, const contender& who, const work& of,
                                const seeder& from, row& seen) {
  const auto program = on.program(who.program);
  const std::string& parent = who.kept == storage::tmpfs ? on.tmpfs : on.directory;
  if (const std::uint64_t free = free_bytes(parent);
      who.keeps() && static_cast<double>(free) < spare * static_cast<double>(of.bytes)) {
    seen.unavailable = fmt::format("{} MiB free on {} are too few", free / mib, name(who.kept));
    return std::nullopt;
  }
  const auto place = scratch::make(parent);
  if (!program || !place) {
    seen.unavailable = program ? place.error() : fmt::format("{} is not built", who.program);
    return std::nullopt;
  }
  seen.command = command_of(who, *program, of, place->path(), from.address);
  stretch timed(from);
  auto client = start_quietly(seen.command);
  if (!client || !timed.run(*client, who.announces)) {
    seen.unavailable = "failed";
  } else if (who.keeps() && !all_whole(of, place->path())) {
    seen.unavailable = "wrong bytes";
  }
  if (!seen.unavailable.empty()) return std::nullopt;
  return timed.of(of.bytes);
}

row row_of(const setup& on, const contender& who, const work& of) {
  row seen;
  seen.way = who.name;
  seen.peer = who.peer;
  seen.kept = who.kept;
  seen.durable = who.durable;
  seen.ours = who.ours();
  seen.object_bytes = of.bytes;
  seen.bytes = of.bytes;
  seen.connections = 1;
  if (who.kept == storage::tmpfs && on.tmpfs.empty()) seen.unavailable = "no tmpfs here";
  return seen;
}

// The first run of each warms up.
void take_turns(const setup& on, const std::vector<const contender*>& who, const work& of,
                outcome& all) {
  const auto from = seeder::start(on, of);
  for (row& seen : all.rows) {
    if (!from) seen.unavailable = "no seeder: python3-libtorrent is not here, or failed";
  }
  for (unsigned turn = 0; turn <= on.runs; ++turn) {
    for (std::size_t i = 0; i < all.rows.size(); ++i) {
      const std::size_t which = turn % 2 == 0 ? i : all.rows.size() - 1 - i;
      row& seen = all.rows[which];
      if (!seen.unavailable.empty()) continue;
      const auto figures_of_run = run_once(on, *who[which], of, *from, seen);
      if (figures_of_run && turn > 0) seen.runs.push_back(*figures_of_run);
      sync_filesystem(on.directory);
    }
  }
}

void conclude(const work& of, outcome& all) {
  limit bound;
  bound.object_bytes = of.bytes;
  bound.connections = 1;
  for (row& seen : all.rows) {
    // One that failed in a later run has figures of those before.
    if (!seen.unavailable.empty()) continue;
    seen.verified = seen.kept != storage::none;
    if (seen.verified || seen.runs.empty()) continue;
    bound.network_mib_per_second = seen.median_of("mib_per_second");
    bound.network_cpu_s_per_gib = seen.median_of("cpu_s_per_gib.process");
  }
  all.limits.push_back(bound);
  compare(all);
}

}  // namespace

outcome run_torrent(const setup& on, const pattern& payload) {
  outcome all;
  all.name = "torrent";
  all.columns = {"mib_per_second", "cpu_s_per_gib.process", "cpu_s_per_gib.machine",
                 "seeder_cpu_s_per_gib", "of_limit.throughput"};
  const std::uint64_t sizes[] = {1024 * mib, 128 * mib, 4 * mib};
  work of{&payload, "", "", sizes[std::to_underlying(on.how_much)], {}};
  of.files = files_of(of.bytes);
  all.notes.push_back(fmt::format(
      "{} MiB in {} files, pieces of {}iB, from one libtorrent seeder; the limit is what it sends "
      "to a peer that throws the bytes away. libtorrent: from its session's readiness to its last "
      "piece; the others: from exec to exit, durable on the disk",
      of.bytes / mib, of.files.size(), piece_size));
  const auto place = scratch::make(on.directory);
  if (!place || free_bytes(on.directory) < 4 * of.bytes) {
    all.notes.emplace_back("left out: too few bytes free");
    return all;
  }
  of.folder = place->path();
  of.torrent = of.folder + "/content.torrent";
  std::vector<const contender*> who;
  for (const contender& one : contenders) {
    const bool named = std::string_view(one.name).find(on.only) != std::string_view::npos;
    const bool wanted = named || !one.keeps();
    if (!wanted || (on.how_much == effort::quick && !one.quick)) continue;
    all.rows.push_back(row_of(on, one, of));
    who.push_back(&one);
  }
  if (const std::string why = make_torrent(on, of); !why.empty()) {
    for (row& seen : all.rows) seen.unavailable = why;
    return all;
  }
  if (on.how_much != effort::tiny) warm_memory(on.directory, 3 * of.bytes);
  take_turns(on, who, of, all);
  conclude(of, all);
  return all;
}

}  // namespace bench
