// What the suites over every backend and filesystem share: the settings, an engine on one of them
// with the checks at its end, peers that are plain threads on plain sockets, and files read back
// with plain system calls.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/engine_core.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/stream.hpp"
#include "sluice/transfer.hpp"
#include "support/engine_fixture.hpp"
#include "support/process_counts.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace conformance {

using namespace std::chrono_literals;
using support::pattern;
using support::same_bytes;  // not CHECK(a == b): a failure would print megabytes
using support::send_all;
using support::stream_pair;

// One way to run the suite.
struct setting {
  std::string name;
  std::string backend;
  std::string folder;   // a folder of the filesystem under test
  bool direct = true;   // whether it takes O_DIRECT
  std::string hidden;   // sluice.capabilities.hidden
  bool shares = false;  // whether its files share blocks
  bool maps = true;     // whether reserved space is there for certain
};

// tmpfs takes the flag and copies into the page cache all the same: not direct.
inline bool takes_direct(const std::string& folder) {
  struct statfs info{};
  if (::statfs(folder.c_str(), &info) != 0 || info.f_type == TMPFS_MAGIC) return false;
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

inline bool is_there(const std::string& folder) {
  return ::access(folder.c_str(), W_OK | X_OK) == 0;
}

// The backends that this machine allows, on the filesystem of the build and, where there is one, on
// tmpfs.
// SLUICE_TEST_ONLY=ring keeps the settings whose name contains the word: to look at one by itself.
inline std::vector<setting> kept(std::vector<setting> all) {
  if (const char* word = std::getenv("SLUICE_TEST_ONLY")) {
    std::erase_if(all, [&](const setting& s) { return s.name.find(word) == std::string::npos; });
  }
  return all;
}

inline std::vector<setting> every_setting() {
  std::vector<setting> all;
  const std::string here = std::filesystem::current_path().string();
  for (const std::string& backend : support::backends()) {
    all.push_back({backend + ", build folder", backend, here, takes_direct(here), ""});
    if (is_there("/dev/shm")) {
      all.push_back({backend + ", tmpfs", backend, "/dev/shm", takes_direct("/dev/shm"), ""});
    }
  }
  return kept(all);
}

// The ring without single capabilities, and both backends without what files would like to have.
inline std::vector<setting> every_fallback() {
  const std::string here = std::filesystem::current_path().string();
  const std::string by_worker =
      "ring.op.ftruncate,ring.op.linkat,ring.op.renameat2,ring.op.unlinkat,ring.op.mkdirat,"
      "ring.op.openat2,ring.op.fallocate,ring.op.fsync,ring.op.close";
  const std::string data_by_worker =
      "ring.op.read,ring.op.write,ring.op.readv,ring.op.writev,ring.op.read_fixed,"
      "ring.op.write_fixed,ring.op.writev_fixed";
  std::vector<setting> all;
  for (const auto& [backend, hidden] :
       std::initializer_list<std::pair<const char*, std::string>>{{"ring", "registered_buffers"},
                                                                  {"ring", "openat2"},
                                                                  {"ring", "unnamed_files"},
                                                                  {"ring", by_worker},
                                                                  {"ring", data_by_worker},
                                                                  {"pool", "openat2"},
                                                                  {"pool", "unnamed_files"}}) {
    if (!support::has_backend(backend)) continue;
    all.push_back(
        {std::string(backend) + " without " + hidden, backend, here, takes_direct(here), hidden});
  }
  return kept(all);
}

inline std::vector<setting> every_setting_and_fallback() {
  std::vector<setting> all = every_setting();
  for (setting& s : every_fallback()) all.push_back(std::move(s));
  return all;
}

// A folder of its own on the filesystem of a setting, gone with everything in it at the end.
inline std::unique_ptr<support::temp_dir> temp_dir_in(const std::string& parent) {
  ::setenv("TMPDIR", parent.c_str(), 1);
  return std::make_unique<support::temp_dir>();
}

inline std::vector<std::string> names_in(const support::temp_dir& folder) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    found.push_back(entry.path().filename().string());
  }
  std::ranges::sort(found);
  return found;
}

inline std::vector<std::byte> content_of(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  struct stat info{};
  REQUIRE(::fstat(fd, &info) == 0);
  std::vector<std::byte> content(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = ::read(fd, content.data() + done, content.size() - done);
    REQUIRE(got > 0);
    done += static_cast<std::size_t>(got);
  }
  ::close(fd);
  return content;
}

inline void make_file(const std::string& path, std::span<const std::byte> content) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  REQUIRE(fd >= 0);
  while (!content.empty()) {
    const ssize_t put = ::write(fd, content.data(), content.size());
    REQUIRE(put > 0);
    content = content.subspan(static_cast<std::size_t>(put));
  }
  ::close(fd);
}

using knob_list = std::initializer_list<support::knob_value>;

// A small engine with blocks of the default size; what the test says wins.
inline sluice::knobs knobs_for(const setting& on, knob_list more) {
  sluice::knobs k = support::small_knobs(on.backend, {{"sluice.memory.block_bytes", "256K"},
                                                      {"sluice.memory.arena_bytes", "8M"},
                                                      {"sluice.capabilities.hidden", on.hidden}});
  for (const support::knob_value& wanted : more) {
    REQUIRE(k.set(wanted.name, wanted.value).has_value());
  }
  return k;
}

// An engine in a setting, with a folder. At its end everything must be back where it began.
class world {
 public:
  explicit world(const setting& on, knob_list more = {})
      : folder_(temp_dir_in(on.folder)),
        fds_before_(support::fd_count()),
        threads_before_(support::thread_count()),
        engine_(support::make_engine(knobs_for(on, more))) {
    REQUIRE(engine_->backend_name() == on.backend);
  }
  world(const world&) = delete;
  world& operator=(const world&) = delete;
  ~world() {
    if (engine_) finish();
  }

  [[nodiscard]] const support::temp_dir& folder() const { return *folder_; }
  [[nodiscard]] std::string at(std::string_view name) const { return folder_->at(name); }
  [[nodiscard]] std::vector<std::string> names() const { return names_in(*folder_); }
  [[nodiscard]] sluice::engine& engine() { return *engine_; }
  [[nodiscard]] std::uint64_t counter(const char* name) const {
    return *engine_->counters().get(name);
  }

  // Runs a task to its end and gives its value.
  template <class T>
  T run(sluice::task<T> work, std::chrono::seconds limit = 60s) {
    std::optional<T> value;
    engine_->start(std::move(work), [&value](T v) { value.emplace(std::move(v)); });
    until([&value] { return value.has_value(); }, limit);
    return std::move(*value);
  }

  // Turns the loop until `done` holds; when nothing happens it asks again after `pause`.
  template <class Predicate>
  void until(Predicate done, std::chrono::seconds limit = 60s,
             std::chrono::nanoseconds pause = 20ms) {
    const auto last = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      REQUIRE(std::chrono::steady_clock::now() < last);
      engine_->run_once(pause);
    }
  }

  // Until nothing is under way, background closes included: what is checked then is final.
  void settle() {
    until([this] { return engine_->core().loop().ops_under_way() == 0; });
    CHECK(engine_->task_count() == 0);
    CHECK(counter("sluice.memory.leases_in_use") == 0);
    CHECK(engine_->core().blocks().free_blocks() == engine_->core().blocks().blocks());
  }

  // Ends the engine and checks; descriptors that the test holds must be as they were.
  void finish() {
    settle();
    engine_.reset();
    count_again();
  }
  // With whatever is under way: the engine itself has to end it. For the checks: count_again, once
  // the test has let go of its descriptors and threads.
  void end_engine() { engine_.reset(); }
  void count_again() const {
    CHECK(support::comes_true([this] { return support::fd_count() == fds_before_; }));
    CHECK(support::comes_true([this] { return support::thread_count() <= threads_before_; }));
  }

 private:
  std::unique_ptr<support::temp_dir> folder_;
  std::size_t fds_before_;
  std::size_t threads_before_;
  std::optional<sluice::engine> engine_;
};

// How many operations the engine was given since, and how many it continued: what the receipt of
// the only transfer meanwhile must say.
class op_counts {
 public:
  explicit op_counts(const sluice::engine& e)
      : engine_(e), submitted_(get("submitted")), resumed_(get("resumed_short")) {}
  [[nodiscard]] std::uint64_t submitted() const { return get("submitted") - submitted_; }
  [[nodiscard]] std::uint64_t resumed() const { return get("resumed_short") - resumed_; }

 private:
  [[nodiscard]] std::uint64_t get(const std::string& name) const {
    return *engine_.counters().get("sluice.ops." + name);
  }
  const sluice::engine& engine_;
  std::uint64_t submitted_;
  std::uint64_t resumed_;
};

// The other end of a connection: a thread with a script of plain system calls. Joined, and its
// socket closed, when it goes.
class peer {
 public:
  template <class Script>
  peer(int fd, Script script)
      : thread_([this, fd, script = std::move(script)] {
          script(fd);
          ::close(fd);
          ended_ = true;
        }) {}
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;
  ~peer() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  // For one that waits for the end of the stream, which may need a turn of the loop: until then a
  // request of the ring that has ended holds the socket, whose descriptor is closed already.
  void join(world& w) {
    w.until([this] { return ended_.load(); }, 60s, 200us);
    join();
  }

 private:
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// What peers do. None checks anything: doctest's checks belong to the test's thread.

// In odd pieces, so that nothing stays aligned.
inline bool put_dribbling(int fd, std::span<const std::byte> bytes, std::uint64_t seed) {
  support::seeded_random random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random.one_in(4) ? 65'537 : 1'499;
    const std::size_t piece = std::min<std::size_t>(bytes.size(), 1 + random.below(most));
    if (!send_all(fd, bytes.first(piece))) return false;
    bytes = bytes.subspan(piece);
  }
  return true;
}

// Until the end of the stream or an error.
inline std::vector<std::byte> take_all(int fd) {
  std::vector<std::byte> taken;
  std::vector<std::byte> buffer(65'536);
  while (true) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return taken;
    taken.insert(taken.end(), buffer.begin(), buffer.begin() + got);
  }
}

// Says nothing until the other side has closed.
inline void stay_silent(int fd) { take_all(fd); }

}  // namespace conformance
