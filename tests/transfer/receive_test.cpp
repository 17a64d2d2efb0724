#include <atomic>
#include <cstring>
#include <memory>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::uint64_t block = 256 * 1024;
constexpr std::uint64_t direct_min_bytes = 64 * 1024;  // of the engines here, by default

struct body {
  std::uint64_t length = 0;
  std::uint64_t prefix = 0;
  bool dribbling = false;
};

// Receives one body and checks everything that can be known about it.
void check_upload(world& w, const setting& on, const std::string& path, const body& b) {
  CAPTURE(path);
  CAPTURE(b.length);
  CAPTURE(b.prefix);
  REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
  const std::vector<std::byte> sent = pattern(b.length + b.prefix, 0, b.length);
  const std::vector<std::byte> prefix(sent.begin(),
                                      sent.begin() + static_cast<std::ptrdiff_t>(b.prefix));
  stream_pair ends = stream_pair::tcp();
  const std::span<const std::byte> rest = std::span(sent).subspan(b.prefix);
  peer sender(ends.take_theirs(), [rest, b](int fd) {
    if (b.dribbling) {
      put_dribbling(fd, rest, b.length);
    } else {
      send_all(fd, rest);
    }
  });
  upload_request request{w.folder().path(), "body", {}};
  request.body.length = b.length;
  request.body.prefix = prefix;
  const uploaded u =
      w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
  REQUIRE(u.outcome.has_value());
  REQUIRE(u.published.has_value());
  const std::vector<std::byte> stored = content_of(w.at("body"));
  CHECK(stored.size() == b.length);
  CHECK(same_bytes(stored, sent));

  const sluice::receipt& r = *u.outcome;
  const bool direct =
      path == "direct" || (path == "auto" && on.direct && b.length >= direct_min_bytes);
  const bool spliced = path == "splice";
  CHECK(std::string(name(r.path)) == (spliced ? "splice" : direct ? "direct" : "copy"));
  CHECK(std::string(r.reason).starts_with(path == "auto" ? "" : "forced"));
  CHECK(std::strlen(r.reason) > 0);
  CHECK(r.bytes == b.length);
  CHECK(r.copies == (direct || spliced ? 1 : 2));
  CHECK(r.copied_bytes == (direct ? b.prefix : 0));
  CHECK(r.first_byte <= r.last_byte);
  CHECK(r.last_byte <= r.stored);
  CHECK(u.progress.bytes == r.bytes);
  CHECK(u.progress.ops == r.ops);
  CHECK(r.ops == u.ops);
  CHECK(r.short_ops >= u.resumed);
  std::filesystem::remove(w.at("body"));
  if (spliced) return;  // its operations follow from how the bytes came: receive_spliced_test.cpp
  // A block costs one receive, unless the prefix filled it, and one write. Around them there may be
  // one reservation and one cut.
  const std::uint64_t first = direct ? 0 : b.prefix;
  const std::uint64_t writes = (b.length - first + block - 1) / block +
                               (!direct && b.prefix == b.length && b.length > 0 ? 1 : 0);
  CHECK(r.ops >= 2 * writes - std::min(writes, direct ? (b.prefix + block - 1) / block
                                                      : (b.prefix == b.length ? 1U : 0U)));
  // From a small pool a block is taken only once there are bytes for it: one poll more.
  const bool small_pool = w.engine().core().blocks().blocks() < 24;
  CHECK(r.ops <= (small_pool ? 3 : 2) * writes + 2 + r.short_ops);
  // The ring's own receives wait for all of it; a thread takes what is there and comes again.
  const bool comes_in_pieces = b.dribbling && b.length > block;
  if (comes_in_pieces && on.backend == "pool") CHECK(r.short_ops > 0);
  if (!comes_in_pieces && on.backend == "ring") CHECK(r.short_ops == 0);
}

std::vector<std::string> paths_of(const setting& on) {
  if (on.direct) return {"auto", "direct", "copy", "splice"};
  return {"auto", "copy", "splice"};
}

// An upload that must fail, with a peer of the test's choice.
template <class Script>
uploaded run_failing(world& w, const sluice::receive_options& options, Script script) {
  uploaded u = upload_from(w, options, script);
  CHECK(w.names().empty());
  return u;
}

sluice::file adopted(world& w, const std::string& name) {
  const int fd = ::open(w.at(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  sluice::result<sluice::file> made = sluice::file::adopt(w.engine(), fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

// Into a file that has its name.
sluice::task<sluice::receipt> receive_and_commit(world& w, std::span<const std::byte> body) {
  stream_pair ends = stream_pair::tcp();
  peer sender(ends.take_theirs(), [body](int fd) { send_all(fd, body); });
  sluice::stream from = adopt(w.engine(), ends.take_ours());
  const int fd = ::open(w.at("named").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  sluice::result<sluice::file> into = sluice::file::adopt(w.engine(), fd);
  sluice::receipt progress;
  const auto received =
      co_await sluice::receive_to_file(from, *into, of_length(body.size()), &progress);
  CHECK(received.has_value());
  CHECK(progress.durable == 0ns);
  const sluice::result<void> committed = co_await into->commit(&progress);
  CHECK(committed.has_value());
  co_return progress;
}

}  // namespace

TEST_CASE("a body of any length arrives byte by byte by every path, and the receipt is exact") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::string& path : paths_of(on)) {
      for (const std::uint64_t length :
           {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{511}, std::uint64_t{512},
            std::uint64_t{4095}, std::uint64_t{4096}, std::uint64_t{4097}, direct_min_bytes - 1,
            direct_min_bytes, block - 1, block, block + 1, 5 * block + 1234}) {
        check_upload(w, on, path, {.length = length});
      }
    }
  }
}

TEST_CASE("a body of 20 MiB passes a pool of a few blocks") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "2M"}});
    for (const std::string& path : paths_of(on)) {
      check_upload(w, on, path, {.length = (20 << 20) + 17});
    }
  }
}

TEST_CASE("bytes that came with the head go first, and only direct copies them") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::string& path : paths_of(on)) {
      for (const std::uint64_t length : {std::uint64_t{5000}, 3 * block + 77}) {
        for (const std::uint64_t prefix :
             {std::uint64_t{1}, std::uint64_t{13}, std::uint64_t{4096}, block - 1, block,
              block + 13, 2 * block, length - 1, length}) {
          if (prefix <= length) check_upload(w, on, path, {.length = length, .prefix = prefix});
        }
      }
    }
  }
}

TEST_CASE("a sender that dribbles odd pieces changes nothing") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::string& path : paths_of(on)) {
      check_upload(w, on, path, {.length = 4 * block + 4321, .prefix = 7, .dribbling = true});
    }
  }
}

TEST_CASE("a prefix longer than the body is refused and nothing is left behind") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> prefix = pattern(1, 0, 101);
    sluice::receive_options options = of_length(100);
    options.prefix = prefix;
    const uploaded u = run_failing(w, options, stay_silent);
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == EINVAL);
  }
}

TEST_CASE("a file or a stream that is closed is told, and the other one is as it was") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      stream_pair ends = stream_pair::tcp();
      sluice::stream from = adopt(w.engine(), ends.take_ours());
      sluice::stream closed_stream;
      sluice::file into = adopted(w, "file");
      sluice::file closed_file;
      const auto code_of = [&w](sluice::task<sluice::result<sluice::receipt>> receiving) {
        const sluice::result<sluice::receipt> r = w.run(std::move(receiving));
        return r ? 0 : r.error().code;
      };
      CHECK(code_of(sluice::receive_to_file(from, closed_file, of_length(block))) == EBADF);
      CHECK(code_of(sluice::receive_to_file(closed_stream, into, of_length(block))) == EBADF);
      CHECK(code_of(sluice::receive_to_file(closed_stream, closed_file, of_length(0))) == EBADF);
      const std::vector<std::byte> sent = pattern(1, 0, block);
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      CHECK(code_of(sluice::receive_to_file(from, into, of_length(block))) == 0);
      sender.join(w);
      CHECK(same_bytes(content_of(w.at("file")), sent));
    }
  }
}

TEST_CASE("a forced direct path says so where the filesystem or the range cannot take it") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.path", "direct"}});
    sluice::receive_options options = of_length(on.direct ? 500 : block);
    if (on.direct) options.offset = 100;
    const uploaded u = run_failing(w, options, stay_silent);
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == code::path_unavailable);
    CHECK(std::string(u.outcome.error().where) ==
          (on.direct ? "the range has no page of its own"
                     : "the filesystem has no O_DIRECT for this file"));
  }
}

TEST_CASE("the reason tells why auto chose a path") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.direct_min_bytes", "4096"}});
    for (const auto& [length, said] : std::initializer_list<std::pair<std::uint64_t, const char*>>{
             {4095, "auto: shorter than direct_min_bytes"},
             {4096, on.direct ? "auto: long and the filesystem takes O_DIRECT"
                              : "the filesystem has no O_DIRECT for this file"}}) {
      const std::vector<std::byte> sent = pattern(length, 0, length);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      upload_request request{w.folder().path(), "", of_length(length)};
      const uploaded u =
          w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
      REQUIRE(u.outcome.has_value());
      CHECK(std::string(u.outcome->reason) == said);
    }
  }
}

TEST_CASE("a peer that closes early at any byte gives end_of_stream and leaves nothing") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.block_bytes", "16K"},
                 {"sluice.memory.arena_bytes", "1M"},
                 {"sluice.receive.direct_min_bytes", "20000"}});
    for (const std::uint64_t length : {std::uint64_t{9000}, std::uint64_t{70'001}}) {
      const std::vector<std::byte> sent = pattern(length, 0, length);
      for (std::uint64_t cut = 0; cut < length; cut += cut < 3 ? 1 : 1 + cut * 2 / 5) {
        CAPTURE(cut);
        const auto part = std::span(sent).first(cut);
        const uploaded u =
            run_failing(w, of_length(length), [part](int fd) { send_all(fd, part); });
        REQUIRE(!u.outcome.has_value());
        CHECK(u.outcome.error().code == code::end_of_stream);
        CHECK(u.progress.bytes == cut);
      }
      const auto part = std::span(sent).first(length - 1);
      const uploaded u = run_failing(w, of_length(length), [part](int fd) { send_all(fd, part); });
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == code::end_of_stream);
    }
  }
}

TEST_CASE("a socket whose reading side is shut down already is at its end, by every path") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    std::vector<std::string> paths = paths_of(on);
    paths.push_back("mapped");
    for (const std::string& path : paths) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      stream_pair ends = stream_pair::tcp();
      REQUIRE(::shutdown(ends.ours(), SHUT_RD) == 0);
      upload_request request{w.folder().path(), "body", of_length(2 * block)};
      const uploaded u =
          w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == code::end_of_stream);
      CHECK(u.progress.bytes == 0);
      CHECK(w.names().empty());
    }
  }
}

TEST_CASE("a peer that resets gives ECONNRESET and leaves nothing") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> sent = pattern(3, 0, 3 * block);
    for (const std::uint64_t cut :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4096}, block, 2 * block + 5}) {
      CAPTURE(cut);
      const auto part = std::span(sent).first(cut);
      const uploaded u = run_failing(w, of_length(sent.size()), [part](int fd) {
        send_all(fd, part);
        support::reset_at_close(fd);
      });
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == ECONNRESET);
    }
  }
}

TEST_CASE("a peer that falls silent gives ETIMEDOUT, from the start as in the middle") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.timeout_ms", "60"}, {"sluice.receive.rate_min_bytes", "0"}});
    const std::vector<std::byte> sent = pattern(4, 0, block + 1000);
    for (const std::uint64_t cut : {std::uint64_t{0}, std::uint64_t{1}, block, block + 1000}) {
      CAPTURE(cut);
      const auto part = std::span(sent).first(cut);
      const auto begun = std::chrono::steady_clock::now();
      const uploaded u = run_failing(w, of_length(3 * block), [part](int fd) {
        send_all(fd, part);
        stay_silent(fd);
      });
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == ETIMEDOUT);
      CHECK(u.progress.bytes == cut);
      CHECK(std::chrono::steady_clock::now() - begun >= 60ms);
    }
  }
}

TEST_CASE("a peer below the minimum rate is too slow") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.timeout_ms", "200"}, {"sluice.receive.rate_min_bytes", "1M"}});
    const uploaded u = run_failing(w, of_length(4 * block), [](int fd) {
      const std::vector<std::byte> piece = pattern(5, 0, 100);
      while (send_all(fd, piece)) std::this_thread::sleep_for(10ms);
    });
    REQUIRE(!u.outcome.has_value());
    CHECK(u.outcome.error().code == code::too_slow);
  }
}

TEST_CASE("a peer that comes in bursts above the minimum rate is served, interval by interval") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.timeout_ms", "100"}, {"sluice.receive.rate_min_bytes", "1K"}});
    for (const std::string& path : paths_of(on)) {
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      const std::vector<std::byte> sent = pattern(6, 0, 80'003);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) {
        for (std::size_t from = 0; from < sent.size(); from += 10'000) {
          send_all(
              fd, std::span(sent).subspan(from, std::min<std::size_t>(10'000, sent.size() - from)));
          std::this_thread::sleep_for(35ms);
        }
      });
      upload_request request{w.folder().path(), "body", of_length(sent.size())};
      const uploaded u =
          w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
      REQUIRE(u.outcome.has_value());
      // An interval ran out and the receive was continued; a splice takes what there is anyway.
      if (path != "splice") CHECK(u.outcome->short_ops >= 1);
      CHECK(same_bytes(content_of(w.at("body")), sent));
    }
  }
}

TEST_CASE("many uploads share a few blocks and all of them finish") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}, {"sluice.receive.depth", "2"}});
    constexpr int uploads = 24;
    REQUIRE(w.engine().core().blocks().blocks() < 4);
    std::vector<std::vector<std::byte>> bodies;
    for (int i = 0; i < uploads; ++i) {
      bodies.push_back(pattern(static_cast<std::uint64_t>(100 + i), 0,
                               2 * block + static_cast<std::size_t>(i) * 977));
    }
    std::vector<std::unique_ptr<peer>> senders;
    std::vector<uploaded> ended;
    for (int i = 0; i < uploads; ++i) {
      const std::vector<std::byte>& sent = bodies[static_cast<std::size_t>(i)];
      stream_pair ends = stream_pair::tcp();
      senders.push_back(
          std::make_unique<peer>(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); }));
      upload_request request{w.folder().path(), std::to_string(i), of_length(sent.size())};
      w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                       [&ended](uploaded u) { ended.push_back(std::move(u)); });
    }
    w.until([&ended] { return ended.size() == uploads; });
    for (const uploaded& u : ended) CHECK(u.outcome.has_value());
    for (int i = 0; i < uploads; ++i) {
      CHECK(same_bytes(content_of(w.at(std::to_string(i))), bodies[static_cast<std::size_t>(i)]));
    }
    CHECK(w.counter("sluice.memory.leases_waited") > 0);
  }
}

namespace {

struct two_ranges {
  sluice::result<sluice::receipt> second = sluice::fail(EINPROGRESS, "test");
  sluice::result<sluice::receipt> first = sluice::fail(EINPROGRESS, "test");
};

// The second range of the file arrives before the first.
sluice::task<two_ranges> receive_backwards(sluice::engine& e, sluice::stream from,
                                           std::filesystem::path folder, std::uint64_t first,
                                           std::uint64_t second) {
  two_ranges done;
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  sluice::receive_options options;
  options.length = second;
  options.offset = first;
  done.second = co_await sluice::receive_to_file(from, *into, options);
  options.length = first;
  options.offset = 0;
  done.first = co_await sluice::receive_to_file(from, *into, options);
  const sluice::result<void> published = co_await sluice::publish(*into, *in, "both");
  if (!published) done.first = std::unexpected(published.error());
  co_return done;
}

}  // namespace

TEST_CASE("a range received into the middle of a file leaves what lies behind it alone") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    for (const std::uint64_t first : {2 * block, 2 * block + 100}) {
      CAPTURE(first);
      const std::vector<std::byte> whole = pattern(first, 0, first + 3 * block + 5);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&whole, first](int fd) {
        send_all(fd, std::span(whole).subspan(first));
        send_all(fd, std::span(whole).first(first));
      });
      const two_ranges done =
          w.run(receive_backwards(w.engine(), adopt(w.engine(), ends.take_ours()),
                                  w.folder().path(), first, whole.size() - first));
      REQUIRE(done.second.has_value());
      REQUIRE(done.first.has_value());
      CHECK(same_bytes(content_of(w.at("both")), whole));
      std::filesystem::remove(w.at("both"));
    }
  }
}

namespace {

sluice::task<sluice::result<sluice::receipt>> receive_into(sluice::engine& e, sluice::stream from,
                                                           std::string path,
                                                           sluice::receive_options options) {
  sluice::result<sluice::file> into =
      sluice::file::adopt(e, ::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!into) co_return std::unexpected(into.error());
  co_return co_await sluice::receive_to_file(from, *into, options);
}

}  // namespace

TEST_CASE("the edges of a direct range inside a file go another way, and the receipt counts them") {
  constexpr std::uint64_t offset = 100;
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.path", "direct"}});
    make_file(w.at("whole"), pattern(1, 0, 4 * block));
    const std::vector<std::byte> part = pattern(2, offset, 3 * block);
    stream_pair ends = stream_pair::tcp();
    peer sender(ends.take_theirs(), [&part](int fd) { send_all(fd, part); });
    sluice::receive_options options;
    options.length = part.size();
    options.offset = offset;
    const auto got = w.run(
        receive_into(w.engine(), adopt(w.engine(), ends.take_ours()), w.at("whole"), options));
    REQUIRE(got.has_value());
    CHECK(got->path == sluice::path::direct);
    CHECK(got->misrouted_bytes == 4096);  // to the end of the first page, and behind the last whole
    std::vector<std::byte> wanted = pattern(1, 0, 4 * block);
    std::ranges::copy(part, wanted.begin() + offset);
    CHECK(same_bytes(content_of(w.at("whole")), wanted));
  }
}

namespace {

// Everything a caller may do with the file once its body is there.
sluice::task<int> use_after_receive(sluice::engine& e, sluice::stream from,
                                    std::filesystem::path folder, std::uint64_t length) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> into = co_await in->create();
  sluice::receive_options options;
  options.length = length;
  const sluice::result<sluice::receipt> got =
      co_await sluice::receive_to_file(from, *into, options);
  if (!got) co_return got.error().code;
  std::vector<std::byte> few(13);
  sluice::op_await reading = into->read(few, 7);
  const sluice::result<std::size_t> read = co_await reading;
  if (!read) co_return read.error().code;
  sluice::op_await writing = into->write(few, length + 1);
  const sluice::result<std::size_t> written = co_await writing;
  co_return written ? 0 : written.error().code;
}

}  // namespace

TEST_CASE("a received file can be read and written at any place, whatever its path was") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      const std::vector<std::byte> sent = pattern(7, 0, block + 11);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      CHECK(w.run(use_after_receive(w.engine(), adopt(w.engine(), ends.take_ours()),
                                    w.folder().path(), sent.size())) == 0);
    }
  }
}

TEST_CASE("an idle stream that waits for bytes holds no lease") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    stream_pair ends = stream_pair::tcp();
    std::optional<sluice::result<std::size_t>> events;
    sluice::stream idle = adopt(w.engine(), ends.take_ours());
    const auto wait = [](sluice::stream& on_stream) -> sluice::task<sluice::result<std::size_t>> {
      sluice::op_await waiting = on_stream.wait_readable();
      co_return co_await waiting;
    };
    w.engine().start(wait(idle), [&events](sluice::result<std::size_t> e) { events = e; });
    for (int i = 0; i < 5; ++i) w.engine().run_once(2ms);
    CHECK(!events.has_value());
    CHECK(w.counter("sluice.memory.leases_taken") == 0);
    CHECK(w.counter("sluice.memory.leases_in_use") == 0);
    send_all(ends.theirs(), pattern(1, 0, 1));
    w.until([&events] { return events.has_value(); });
    CHECK(events->has_value());
  }
}

namespace {

struct started {
  std::unique_ptr<peer> sender;
  std::optional<uploaded> outcome;
};

// Begins an upload that is not waited for.
template <class Script>
std::unique_ptr<started> start_upload(world& w, const std::string& name, std::uint64_t length,
                                      Script script) {
  auto made = std::make_unique<started>();
  stream_pair ends = stream_pair::tcp();
  made->sender = std::make_unique<peer>(ends.take_theirs(), script);
  upload_request request{w.folder().path(), name, of_length(length)};
  w.engine().start(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request),
                   [at = made.get()](uploaded u) { at->outcome.emplace(std::move(u)); });
  return made;
}

}  // namespace

TEST_CASE("uploads that send nothing leave blocks for one that does") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "4M"}});
    const std::size_t blocks = w.engine().core().blocks().blocks();
    std::atomic<bool> over = false;
    const auto silent = [&over](int) {
      while (!over) std::this_thread::sleep_for(1ms);
    };
    std::vector<std::unique_ptr<started>> idle;
    for (std::size_t i = 0; i < blocks + 4; ++i) {
      idle.push_back(start_upload(w, "idle" + std::to_string(i), 8 * block, silent));
    }
    for (int i = 0; i < 50; ++i) w.engine().run_once(2ms);
    CHECK(w.counter("sluice.memory.leases_in_use") < blocks);
    const std::vector<std::byte> sent = pattern(9, 0, 8 * block);
    const std::unique_ptr<started> busy =
        start_upload(w, "busy", sent.size(), [&sent](int fd) { send_all(fd, sent); });
    w.until([&busy] { return busy->outcome.has_value(); }, 20s);
    CHECK(busy->outcome->outcome.has_value());
    CHECK(same_bytes(content_of(w.at("busy")), sent));
    over = true;
    w.until([&idle] {
      return std::ranges::all_of(idle, [](const auto& s) { return s->outcome.has_value(); });
    });
  }
}

TEST_CASE("who fills no block while others wait for one is too slow") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"},
                 {"sluice.receive.timeout_ms", "1000"},
                 {"sluice.receive.rate_min_bytes", "1"}});
    const std::size_t blocks = w.engine().core().blocks().blocks();
    const auto trickling = [](int fd) {
      const std::vector<std::byte> piece = pattern(5, 0, 10);
      while (send_all(fd, piece)) std::this_thread::sleep_for(10ms);
    };
    std::vector<std::unique_ptr<started>> slow;
    for (std::size_t i = 0; i < blocks; ++i) {
      slow.push_back(start_upload(w, "slow" + std::to_string(i), 8 * block, trickling));
    }
    w.until([&] { return w.counter("sluice.memory.leases_in_use") == blocks; });
    const std::vector<std::byte> sent = pattern(9, 0, block + 1);
    const std::unique_ptr<started> fast =
        start_upload(w, "fast", sent.size(), [&sent](int fd) { send_all(fd, sent); });
    w.until([&fast] { return fast->outcome.has_value(); }, 20s);
    REQUIRE(fast->outcome->outcome.has_value());
    CHECK(same_bytes(content_of(w.at("fast")), sent));
    const auto refused = std::ranges::find_if(slow, [](const auto& s) {
      return s->outcome.has_value() && !s->outcome->outcome.has_value() &&
             s->outcome->outcome.error().code == code::too_slow;
    });
    CHECK(refused != slow.end());
    w.engine().cancel_all();
    w.until([&slow] {
      return std::ranges::all_of(slow, [](const auto& s) { return s->outcome.has_value(); });
    });
  }
}

TEST_CASE("an upload for which no block becomes free says ENOBUFS") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}, {"sluice.receive.timeout_ms", "100"}});
    std::vector<sluice::lease> taken;
    while (sluice::lease one = w.engine().core().blocks().try_take()) {
      taken.push_back(std::move(one));
    }
    const std::unique_ptr<started> waits =
        start_upload(w, "waits", 2 * block, [](int fd) { send_all(fd, pattern(1, 0, 2 * block)); });
    w.until([&waits] { return waits->outcome.has_value(); }, 20s);
    REQUIRE(!waits->outcome->outcome.has_value());
    CHECK(waits->outcome->outcome.error().code == ENOBUFS);
    taken.clear();
  }
}

namespace {

// What a second transfer over the same file object is told.
sluice::task<std::vector<int>> try_others(sluice::engine& e, sluice::stream& with,
                                          sluice::file& over) {
  const auto code_of = [](const auto& r) { return r ? 0 : r.error().code; };
  std::vector<int> told;
  sluice::receive_options receiving;
  receiving.length = block;
  told.push_back(code_of(co_await sluice::receive_to_file(with, over, receiving)));
  sluice::send_options sending;
  sending.length = 1;
  told.push_back(code_of(co_await sluice::send_from_file(with, over, sending)));
  sluice::span_writer writer(e, over);
  const iovec none{nullptr, 0};
  told.push_back(code_of(co_await writer.write({}, {&none, 1})));
  told.push_back(code_of(co_await writer.finish()));
  co_return told;
}

}  // namespace

TEST_CASE("a receipt says when its bytes were durable: of a publish or commit, and only of these") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> sent = pattern(8, 0, 70'000);
    const auto publish = [&](const std::string& name, sluice::durability wanted) {
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
      const upload_request request{w.folder().path(), name, of_length(sent.size()), wanted};
      const uploaded u =
          w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
      CHECK(u.published.has_value() == !name.starts_with('/'));
      return u.progress;
    };
    const auto before = std::chrono::steady_clock::now();
    const sluice::receipt durable = publish("durable", sluice::durability::durable);
    const auto after = std::chrono::steady_clock::now();
    CHECK(durable.durable > durable.stored);
    CHECK(durable.begun >= before);
    CHECK(durable.begun + durable.durable <= after);
    CHECK(publish("stored", sluice::durability::stored).durable == 0ns);
    CHECK(publish("/refused", sluice::durability::durable).durable == 0ns);
    const sluice::receipt committed = w.run(receive_and_commit(w, sent));
    CHECK(committed.durable > committed.stored);
  }
}

TEST_CASE("one transfer at a time has a file object, others are told EBUSY and disturb nothing") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.receive.path", path}});
      sluice::file into = adopted(w, "file");
      const std::vector<std::byte> sent = pattern(7, 0, 2 * block + 11);
      stream_pair ends = stream_pair::tcp();
      stream_pair other = stream_pair::tcp();
      sluice::stream from = adopt(w.engine(), ends.take_ours());
      sluice::stream with = adopt(w.engine(), other.take_ours());
      sluice::receive_options all;
      all.length = sent.size();
      std::optional<sluice::result<sluice::receipt>> first;
      w.engine().start(sluice::receive_to_file(from, into, all),
                       [&first](sluice::result<sluice::receipt> r) { first.emplace(r); });
      REQUIRE(send_all(ends.theirs(), std::span(sent).first(block + 5)));
      for (int i = 0; i < 5; ++i) w.engine().run_once(2ms);
      CHECK(w.run(try_others(w.engine(), with, into)) == std::vector<int>(4, EBUSY));
      REQUIRE(send_all(ends.theirs(), std::span(sent).subspan(block + 5)));
      w.until([&first] { return first.has_value(); });
      CHECK(first->has_value());
      CHECK(same_bytes(content_of(w.at("file")), sent));
      // The file is free again.
      sluice::receive_options more;
      more.offset = sent.size();
      more.length = 100;
      REQUIRE(w.engine().set_knob("sluice.receive.path", "copy").has_value());  // it is unaligned
      REQUIRE(send_all(other.theirs(), pattern(8, 0, 100)));
      CHECK(w.run(sluice::receive_to_file(with, into, more)).has_value());
      const std::vector<std::byte> content = content_of(w.at("file"));
      CHECK(support::is_pattern(std::span(content).subspan(sent.size()), 8, 0));
    }
  }
}

TEST_CASE("a minimum rate above a block per interval is judged over many blocks") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.receive.timeout_ms", "200"}, {"sluice.receive.rate_min_bytes", "8M"}});
    const std::vector<std::byte> body = pattern(40, 0, 16 * block);
    std::vector<std::string> paths = paths_of(on);
    paths.emplace_back("mapped");
    for (const std::string& path : paths) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      // A block in about 80 ms.
      const uploaded slow = run_failing(w, of_length(body.size()), [&body](int fd) {
        for (std::size_t at = 0; at < body.size(); at += 65'536) {
          if (!send_all(fd, std::span(body).subspan(at, 65'536))) return;
          std::this_thread::sleep_for(20ms);
        }
      });
      REQUIRE(!slow.outcome.has_value());
      CHECK(slow.outcome.error().code == code::too_slow);
      const uploaded fast =
          upload_from(w, of_length(body.size()), [&body](int fd) { send_all(fd, body); });
      REQUIRE(fast.outcome.has_value());
      CHECK(same_bytes(content_of(w.at("body")), body));
      std::filesystem::remove(w.at("body"));
    }
  }
}

TEST_CASE("a peer that ends early is not told for a reset because our own end was sent before") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    std::vector<std::string> paths = paths_of(on);
    paths.emplace_back("mapped");
    const std::vector<std::byte> part = pattern(41, 0, 10'000);
    for (const std::string& path : paths) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.receive.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      sluice::stream from = adopt(w.engine(), ends.take_ours());
      REQUIRE(from.shutdown(SHUT_WR).has_value());
      peer sender(ends.take_theirs(), [&part](int fd) {
        take_all(fd);
        send_all(fd, part);
      });
      upload_request request{w.folder().path(), "body", of_length(2 * part.size())};
      const uploaded u = w.run(receive_upload(w.engine(), std::move(from), request));
      sender.join(w);
      REQUIRE(!u.outcome.has_value());
      CHECK(u.outcome.error().code == code::end_of_stream);
      CHECK(u.progress.bytes == part.size());
      w.settle();
    }
  }
}
