// A disk that stops at a question, about a file (stat), about itself (statfs) or for the bytes of a
// file: whatever an engine does there, at whichever question, its loop goes on with others.
#include <array>
#include <atomic>
#include <functional>
#include <optional>

#include "faults/disk.hpp"
#include "sluice/block_writer.hpp"
#include "sluice/direct_reader.hpp"
#include "sluice/file_copy.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using namespace std::chrono_literals;
using support::request_kind;
using steady = std::chrono::steady_clock;

constexpr std::uint64_t questions_max = 100;
constexpr std::uint64_t content_bytes = 3 * block_bytes + 5;

// A world on the disk, in a child of its own; the questions are asked anew each time.
class questioned {
 public:
  questioned(support::fault_fs& disk, const std::string& backend, const char* path)
      : disk_(disk),
        healthy_(conformance::temp_dir_in(std::filesystem::current_path().string())),
        content_(support::pattern(3, 0, content_bytes)),
        world_(conformance::setting{backend, backend, disk.mount_point(), true, ""},
               {{"sluice.memory.block_bytes", "64K"},
                {"sluice.pool.threads", "8"},
                {"sluice.receive.path", path},
                {"sluice.send.path", path},
                {"sluice.send.direct_min_bytes", "64K"}}),
        watching_([this] { watch(); }) {
    disk_.orders().reset();
    conformance::make_file(world_.at("source"), content_);
    conformance::make_file(world_.at("target"), content_);
    for (const char* name : {"source", "target"}) forget_pages(world_.at(name));
  }
  questioned(const questioned&) = delete;
  questioned& operator=(const questioned&) = delete;
  ~questioned() {
    disk_.resume();
    over_ = true;
    watching_.join();
    disk_.orders().reset();
  }

  conformance::world& world() { return world_; }
  sluice::engine& engine() { return world_.engine(); }
  [[nodiscard]] std::string folder() const { return world_.folder().path(); }
  [[nodiscard]] std::span<const std::byte> content() const { return content_; }

  // Stops the disk at that question of the task; whether the task came so far. Its outcome is 0.
  bool stops_at(request_kind kind, std::uint64_t ordinal, sluice::task<int> work) {
    std::optional<int> told;
    disk_.orders().of(kind).stop_at = disk_.orders().of(kind).seen + ordinal;
    engine().start(std::move(work), [&told](int code) { told = code; });
    turn_until([&] { return told.has_value() || disk_.has_stopped(0ms); });
    const bool stopped = disk_.has_stopped(0ms);
    if (stopped) CHECK(others_go_on());
    disk_.resume();
    turn_until([&told] { return told.has_value(); });
    CHECK(told.value_or(-1) == 0);
    CHECK_FALSE(stood_still_);
    return stopped;
  }

 private:
  template <class Condition>
  void turn_until(Condition reached) {
    const auto last = steady::now() + 20s;
    while (!reached() && steady::now() < last) {
      engine().run_once(5ms);
      ++turns_;
    }
    CHECK(reached());
  }

  // So that they are to be read again.
  static void forget_pages(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    ::close(fd);
  }

  // A durable upload to a healthy disk.
  bool others_go_on() {
    std::optional<int> told;
    engine().start(publish_beside(engine(), healthy_->path(), content_),
                   [&told](int code) { told = code; });
    turn_until([&told] { return told.has_value(); });
    std::filesystem::remove(healthy_->at("beside"));
    return told == 0;
  }

  static sluice::task<int> publish_beside(sluice::engine& e, std::string path,
                                          std::span<const std::byte> content) {
    sluice::result<sluice::directory> in = co_await sluice::directory::open(e, std::move(path));
    if (!in) co_return in.error().code;
    sluice::result<sluice::file> made = co_await in->create();
    if (!made) co_return made.error().code;
    sluice::op_await writing = made->write(content, 0);
    const sluice::result<std::size_t> written = co_await writing;
    if (!written) co_return written.error().code;
    std::string name = "beside";
    const sluice::result<void> done = co_await sluice::publish(*made, *in, std::move(name));
    co_return done ? 0 : done.error().code;
  }

  // A loop that waits for the disk would wait for ever: after a while the disk goes on, and the
  // test has failed.
  void watch() {
    std::uint64_t seen = 0;
    auto since = steady::now();
    while (!over_) {
      std::this_thread::sleep_for(20ms);
      if (turns_ != seen || !disk_.has_stopped(0ms)) {
        seen = turns_;
        since = steady::now();
      } else if (steady::now() - since > 3s) {
        stood_still_ = true;
        disk_.resume();
      }
    }
  }

  support::fault_fs& disk_;
  std::unique_ptr<support::temp_dir> healthy_;
  const std::vector<std::byte> content_;
  conformance::world world_;
  std::atomic<std::uint64_t> turns_ = 0;
  std::atomic<bool> stood_still_ = false;
  std::atomic<bool> over_ = false;
  std::thread watching_;  // the last: it uses the others
};

int code_of(const auto& outcome) { return outcome ? 0 : outcome.error().code; }

using work = std::function<sluice::task<int>(questioned&)>;

// Runs the work once for each of its questions of every kind.
void at_every_question(const work& body, const char* path = "auto", bool page_cache = true) {
  on_fault_fs({.direct_io = !page_cache, .keep_no_attributes = true}, [&](support::fault_fs& disk) {
    for (const std::string& backend : support::backends()) {
      CAPTURE(backend);
      for (const request_kind kind :
           {request_kind::attributes, request_kind::filesystem, request_kind::read}) {
        CAPTURE(static_cast<int>(kind));
        bool more = true;
        for (std::uint64_t ordinal = 1; more && ordinal < questions_max; ++ordinal) {
          CAPTURE(ordinal);
          questioned q(disk, backend, path);
          more = q.stops_at(kind, ordinal, body(q));
        }
        CHECK_FALSE(more);
      }
    }
  });
}

sluice::task<sluice::directory> root_of(questioned& q) {
  sluice::result<sluice::directory> root = co_await sluice::directory::open(q.engine(), q.folder());
  if (!root) co_return sluice::directory();
  co_return std::move(*root);
}

// The file `name` of the folder, for reading and writing, opened before the questions begin.
sluice::file opened(questioned& q, const char* name) {
  sluice::result<sluice::file> made =
      sluice::file::adopt(q.engine(), ::open(q.world().at(name).c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(made.has_value());
  return std::move(*made);
}

sluice::task<int> uploads(questioned& q, sluice::stream from, sluice::durability wanted) {
  conformance::upload_request request{q.folder(), "body", {}, wanted};
  request.body.length = content_bytes;
  const conformance::uploaded u =
      co_await conformance::receive_upload(q.engine(), std::move(from), std::move(request));
  co_return u.outcome ? code_of(u.published) : u.outcome.error().code;
}

// Its peer writes into the socket what fits.
sluice::task<int> upload(questioned& q, sluice::durability wanted) {
  conformance::stream_pair ends = conformance::stream_pair::tcp();
  const int theirs = ends.take_theirs();
  std::thread([theirs, bytes = support::pattern(3, 0, content_bytes)] {
    conformance::send_all(theirs, bytes);
    ::close(theirs);
  }).detach();
  return uploads(q, conformance::adopt(q.engine(), ends.take_ours()), wanted);
}

sluice::task<int> send_by_name(questioned& q, sluice::stream to, sluice::file_content content) {
  sluice::directory root = co_await root_of(q);
  if (!root) co_return EIO;
  sluice::file_info seen;
  std::string name = "source";
  sluice::result<sluice::file> from = co_await root.open_file(std::move(name), &seen);
  if (!from) co_return from.error().code;
  sluice::send_options options;
  options.length = seen.bytes;
  options.content = content;
  options.as_seen = seen;
  const auto sent = co_await sluice::send_from_file(to, *from, options);
  co_return seen.bytes == content_bytes ? code_of(sent) : EINVAL;
}

sluice::task<int> download(questioned& q, sluice::file_content content) {
  conformance::stream_pair ends = conformance::stream_pair::tcp();
  const int theirs = ends.take_theirs();
  std::thread([theirs] {
    std::vector<std::byte> bytes(content_bytes);
    while (::recv(theirs, bytes.data(), bytes.size(), 0) > 0) continue;
    ::close(theirs);
  }).detach();
  return send_by_name(q, conformance::adopt(q.engine(), ends.take_ours()), content);
}

sluice::task<int> look_and_remove(questioned& q) {
  sluice::directory root = co_await root_of(q);
  if (!root) co_return EIO;
  std::string name = "target";
  const auto seen = co_await root.look(name);
  if (!seen) co_return seen.error().code;
  const auto again = co_await root.create_for(name);
  if (!again) co_return again.error().code;
  const auto removed = co_await root.remove(std::move(name));
  co_return seen->bytes == content_bytes ? code_of(removed) : EINVAL;
}

sluice::task<int> make_directories(questioned& q) {
  sluice::directory root = co_await root_of(q);
  if (!root) co_return EIO;
  std::string path = "a/b";
  const auto made = co_await root.open_directory(std::move(path), sluice::make_parents::yes);
  co_return code_of(made);
}

sluice::task<int> work_on_file(questioned& q, sluice::file f) {
  const auto reserved = co_await f.reserve(2 * content_bytes);
  if (!reserved && reserved.error().code != EOPNOTSUPP) co_return reserved.error().code;
  sluice::op_await writing = f.write(q.content(), 0);
  const auto written = co_await writing;
  if (!written) co_return written.error().code;
  const auto committed = co_await f.commit();
  if (!committed) co_return committed.error().code;
  const auto seen = co_await f.look();
  if (!seen) co_return seen.error().code;
  std::array<std::byte, 100> bytes{};
  sluice::op_await reading = f.read(bytes, 7);
  const auto read = co_await reading;
  if (!read) co_return read.error().code;
  {
    const auto reader = co_await sluice::direct_reader::open(f);
    if (!reader && reader.error().code != EOPNOTSUPP) co_return reader.error().code;
    auto writer = co_await sluice::block_writer::open(f);
    if (!writer) co_return writer.error().code;
    const auto again = co_await writer->read(bytes, block_bytes);
    if (!again) co_return again.error().code;
    const auto nothing = co_await writer->commit();
    if (!nothing) co_return nothing.error().code;
  }
  const auto closed = co_await f.close();
  co_return code_of(closed);
}

sluice::task<int> copies(sluice::file from, sluice::file into) {
  sluice::copy_options options;
  options.length = content_bytes;
  const auto copied = co_await sluice::copy_file(from, into, options);
  co_return code_of(copied);
}

}  // namespace

TEST_CASE("a durable upload to a disk that answers no question holds up nobody else") {
  for (const char* path : {"copy", "direct"}) {
    CAPTURE(path);
    at_every_question([](questioned& q) { return upload(q, sluice::durability::durable); }, path);
  }
}

TEST_CASE("a download from a disk that answers no question holds up nobody else") {
  const auto body = [](questioned& q) { return download(q, sluice::file_content::unchanging); };
  for (const char* path : {"copy", "direct", "auto"}) {
    CAPTURE(path);
    for (const bool page_cache : {true, false}) {
      CAPTURE(page_cache);
      at_every_question(body, path, page_cache);
    }
  }
}

TEST_CASE("names looked at, replaced and removed there hold up nobody else") {
  at_every_question(look_and_remove);
}

TEST_CASE("directories made there hold up nobody else") { at_every_question(make_directories); }

TEST_CASE("a file written, committed and asked for there holds up nobody else") {
  at_every_question([](questioned& q) { return work_on_file(q, opened(q, "target")); });
}

TEST_CASE("a copy between files there holds up nobody else") {
  at_every_question([](questioned& q) { return copies(opened(q, "source"), opened(q, "target")); });
}
