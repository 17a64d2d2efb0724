#include "torrent_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "disk_check.hpp"

namespace bt {

namespace {

namespace fs = std::filesystem;
using refused = std::unexpected<std::string>;

constexpr unsigned threads_max = 16;

// Descriptors of the files, in the torrent's order.
class open_files {
 public:
  open_files() = default;
  open_files(const open_files&) = delete;
  open_files& operator=(const open_files&) = delete;
  ~open_files() {
    for (const int fd : fds_) ::close(fd);
  }
  // The length; nothing: errno says why.
  std::expected<std::uint64_t, int> add(const std::string& path) {
    // A FIFO that has come there meanwhile is not waited for.
    const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return std::unexpected(errno);
    fds_.push_back(fd);
    struct stat info{};
    if (::fstat(fd, &info) != 0) return std::unexpected(errno);
    if (!S_ISREG(info.st_mode)) return std::unexpected(EINVAL);
    return static_cast<std::uint64_t>(info.st_size);
  }
  [[nodiscard]] std::span<const int> all() const { return fds_; }

 private:
  std::vector<int> fds_;
};

// Relative paths of the regular files beneath a directory, sorted.
std::expected<std::vector<std::string>, std::string> list(const fs::path& top) {
  std::vector<std::string> paths;
  std::error_code problem;
  fs::recursive_directory_iterator at(top, problem);
  for (; !problem && at != fs::recursive_directory_iterator(); at.increment(problem)) {
    const fs::file_status status = at->symlink_status(problem);
    if (problem) break;
    if (fs::is_directory(status)) continue;
    if (!fs::is_regular_file(status))
      return refused(fmt::format("{}: neither a file nor a directory", at->path().string()));
    for (const fs::path& part : at->path().lexically_relative(top)) {
      const char* why = refuse_component(part.native());
      if (why != nullptr) return refused(fmt::format("{}: its name {}", at->path().string(), why));
    }
    paths.push_back(at->path().lexically_relative(top).string());
  }
  if (problem) return refused(fmt::format("{}: {}", top.string(), problem.message()));
  std::ranges::sort(paths);
  return paths;
}

// Whether the file can be one that read_torrent takes, before anything is hashed.
std::expected<void, std::string> check_length(metainfo of, std::uint64_t total, bool single) {
  constexpr std::uint64_t digits = 32;  // of lengths that grow
  constexpr std::uint64_t piece_bytes_offered = 64 << 20;
  of.pieces.clear();
  const std::uint64_t names = write_metainfo(of, single).size() + digits;
  const auto fits = [&](std::uint64_t each) {
    return names + (total + each - 1) / each * sizeof(sha1_digest) <= metainfo_bytes_max;
  };
  if (fits(of.piece_bytes)) return {};
  std::uint64_t enough = of.piece_bytes;
  while (enough < piece_bytes_offered && !fits(enough)) enough *= 2;
  const std::string why = fmt::format(
      "its .torrent file would be longer than the {} MiB that get "
      "takes",
      metainfo_bytes_max >> 20U);
  if (!fits(enough)) return refused(why);
  return refused(fmt::format("{}; use --piece-bytes {}K", why, enough >> 10U));
}

// Threads take pieces in turn; the first failure ends it.
std::expected<void, std::string> hash_pieces(metainfo& of, const open_files& files) {
  const layout where = of.layout();
  of.pieces.resize(where.pieces());
  std::atomic<std::uint32_t> next = 0;
  std::atomic<int> problem = 0;
  {
    std::vector<std::jthread> threads;
    const auto work = [&] {
      disk_reader reader(where, files.all());
      // Relaxed: who takes which piece is all there is to agree on; joining orders the rest.
      for (std::uint32_t piece = 0;
           problem == 0 &&
           (piece = next.fetch_add(1, std::memory_order_relaxed)) < where.pieces();) {
        const auto digest = reader.digest_of(piece);
        if (!digest) problem = digest.error();
        if (digest) of.pieces[piece] = *digest;
      }
    };
    const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, threads_max);
    for (unsigned i = 1; i < count; ++i) threads.emplace_back(work);
    work();
  }
  if (problem == ENODATA) return refused("a file became shorter meanwhile");
  if (problem != 0) return refused(fmt::format("reading: {}", std::strerror(problem)));
  return {};
}

}  // namespace

std::expected<metainfo, std::string> read_torrent(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0)
    return refused(fmt::format("{}: {}", path, std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) return refused(fmt::format("{}: no regular file", path));
  if (static_cast<std::uint64_t>(info.st_size) > metainfo_bytes_max)
    return refused(fmt::format("{}: too long for a .torrent file", path));
  std::ifstream in(path, std::ios::binary);
  const std::string content(std::istreambuf_iterator<char>(in), {});
  if (!in.good() && !in.eof()) return refused(fmt::format("{}: cannot be read", path));
  auto parsed = parse_metainfo(content);
  if (!parsed) return refused(fmt::format("{}: no usable torrent: {}", path, parsed.error()));
  return parsed;
}

std::expected<std::string, std::string> describe_path(const std::string& path,
                                                      std::uint64_t piece_bytes) {
  std::error_code problem;
  const fs::path top = fs::canonical(path, problem);
  if (problem) return refused(fmt::format("{}: {}", path, problem.message()));
  const bool single = !fs::is_directory(top);
  if (single && !fs::is_regular_file(top))
    return refused(fmt::format("{}: neither a file nor a directory", path));
  metainfo made;
  made.name = top.filename().string();
  made.piece_bytes = piece_bytes;
  const char* why = refuse_component(made.name);
  if (why != nullptr) return refused(fmt::format("{}: its name {}", path, why));
  std::vector<std::string> paths{""};
  if (!single) {
    auto listed = list(top);
    if (!listed) return refused(listed.error());
    paths = *std::move(listed);
  }
  open_files files;
  std::uint64_t total = 0;
  for (const std::string& one : paths) {
    const std::string full = single ? top.string() : (top / one).string();
    const auto bytes = files.add(full);
    if (!bytes) return refused(fmt::format("{}: {}", full, std::strerror(bytes.error())));
    made.files.push_back({single ? made.name : made.name + "/" + one, *bytes});
    total += *bytes;
  }
  if (total == 0) return refused(fmt::format("{}: it has no content", path));
  const auto short_enough = check_length(made, total, single);
  if (!short_enough) return refused(fmt::format("{}: {}", path, short_enough.error()));
  const auto hashed = hash_pieces(made, files);
  if (!hashed) return refused(fmt::format("{}: {}", path, hashed.error()));
  return write_metainfo(made, single);
}

}  // namespace bt
