#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "conformance/download.hpp"
#include "transfer/splice_ways.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::uint64_t block = 256 * 1024;  // of the engines here

std::vector<std::string> paths_of(const setting& on) {
  if (on.direct) return {"auto", "direct", "copy", "splice"};
  return {"auto", "copy", "splice"};
}

// Takes so many bytes, then goes.
auto take_only(std::size_t count, bool reset) {
  return [count, reset](int fd) {
    std::vector<std::byte> taken(count);
    taken.resize(support::recv_all(fd, taken));
    if (reset) support::reset_at_close(fd);
    return taken;
  };
}

}  // namespace

TEST_CASE("every range of a file arrives behind its head, byte by byte, and the receipt is exact") {
  for (const setting& on : every_setting_and_fallback()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.direct_min_bytes", "256K"}});
    const std::vector<std::byte> source = pattern(11, 0, 5 * block + 1234);
    make_file(w.at("source"), source);
    const std::vector<std::byte> head = pattern(12, 0, 333);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      for (const auto& [offset, length] :
           std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
               {0, 0},
               {0, 1},
               {0, 4096},
               {1, 4096},
               {511, 514},
               {4095, block},
               {block - 1, 2},
               {block, block},
               {3, 3 * block},
               {0, source.size()},
               {source.size() - 1, 1},
               {source.size() - 5000, 5000},
               {source.size(), 0}}) {
        CAPTURE(offset);
        CAPTURE(length);
        for (const bool headed : {false, true}) {
          sluice::send_options options = range(offset, length);
          if (headed) options.head = head;
          const sent s = send_range(w, options, take_all);
          REQUIRE(s.outcome.has_value());
          std::vector<std::byte> wanted;
          if (headed) wanted = head;
          wanted.insert(wanted.end(), source.begin() + static_cast<std::ptrdiff_t>(offset),
                        source.begin() + static_cast<std::ptrdiff_t>(offset + length));
          CHECK(s.arrived.size() == wanted.size());
          CHECK(same_bytes(s.arrived, wanted));
          const bool direct = path == "direct" || (path == "auto" && on.direct && length >= block);
          const bool spliced = path == "splice";
          CHECK(std::string(name(s.outcome->path)) == (spliced  ? "splice"
                                                       : direct ? "direct"
                                                                : "copy"));
          CHECK(s.outcome->copies == (spliced ? 0 : direct ? 1 : 2));
          CHECK(s.outcome->bytes == length);
          CHECK(s.outcome->copied_bytes == 0);
          CHECK(std::strlen(s.outcome->reason) > 0);
          if (spliced) continue;  // its operations: send_spliced_test.cpp
          // Each block is one read and one send.
          const std::uint64_t blocks = (length + block - 1) / block;
          CHECK(s.outcome->ops >= 2 * blocks + (length == 0 && headed ? 1 : 0));
          CHECK(s.outcome->ops <= 2 * blocks + 2 + s.outcome->short_ops);
        }
      }
    }
  }
}

TEST_CASE("a peer that reads slowly gets the same bytes") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "2000"}});
    const std::vector<std::byte> source = pattern(13, 0, 9 << 20);
    make_file(w.at("source"), source);
    for (const std::string& path : paths_of(on)) {
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      const sent s = send_range(w, range(0, source.size()), take_slowly);
      CHECK(s.outcome.has_value());
      CHECK(same_bytes(s.arrived, source));
    }
  }
}

TEST_CASE("a peer that pauses for longer than an interval, but takes enough, is served") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "100"}, {"sluice.send.rate_min_bytes", "1K"}});
    const std::vector<std::byte> source = pattern(14, 0, 12 << 20);
    make_file(w.at("source"), source);
    const sent s = send_range(w, range(0, source.size()), [](int fd) {
      std::vector<std::byte> taken;
      std::vector<std::byte> buffer(2 << 20);
      while (true) {
        const std::size_t got = support::recv_all(fd, buffer);
        if (got == 0) return taken;
        taken.insert(taken.end(), buffer.begin(),
                     buffer.begin() + static_cast<std::ptrdiff_t>(got));
        std::this_thread::sleep_for(60ms);
      }
    });
    CHECK(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, source));
  }
}

TEST_CASE("a peer that takes nothing gives ETIMEDOUT") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "80"}});
    make_file(w.at("source"), pattern(15, 0, 32 << 20));
    stream_pair ends = stream_pair::tcp();
    const sluice::result<sluice::receipt> outcome =
        w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(),
                         "source", range(0, 32 << 20)));
    REQUIRE(!outcome.has_value());
    CHECK(outcome.error().code == ETIMEDOUT);
    ends.close_theirs();
  }
}

TEST_CASE("a peer that closes or resets while it is served gives EPIPE or ECONNRESET") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(16, 0, 16 << 20);
    make_file(w.at("source"), source);
    for (const bool reset : {false, true}) {
      for (const std::size_t taken : {std::size_t{0}, std::size_t{1}, std::size_t{300'000}}) {
        CAPTURE(taken);
        const sent s = send_range(w, range(0, source.size()), take_only(taken, reset));
        REQUIRE(!s.outcome.has_value());
        const int why = s.outcome.error().code;
        CHECK((why == EPIPE || why == ECONNRESET));
        CHECK(same_bytes(s.arrived, std::span(source).first(s.arrived.size())));
      }
    }
  }
}

TEST_CASE("a range beyond the end of the file gives end_of_stream and no filler bytes") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(17, 0, 2 * block + 100);
    make_file(w.at("source"), source);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      for (const auto& [offset, length] :
           std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
               {0, source.size() + 1},
               {0, 3 * block},
               {source.size(), 1},
               {source.size() + 10 * block, block}}) {
        CAPTURE(offset);
        const sent s = send_range(w, range(offset, length), take_all);
        REQUIRE(!s.outcome.has_value());
        CHECK(s.outcome.error().code == code::end_of_stream);
        REQUIRE(s.arrived.size() <= source.size());
        if (offset == 0) {
          CHECK(same_bytes(s.arrived, std::span(source).first(s.arrived.size())));
        } else {
          CHECK(s.arrived.empty());
        }
      }
    }
  }
}

TEST_CASE("a file cut short while it is sent gives end_of_stream and no filler bytes") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.depth", "2"}});
    const std::vector<std::byte> source = pattern(18, 0, 24 << 20);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      make_file(w.at("source"), source);
      const std::string file = w.at("source");
      const sent s = send_range(w, range(0, source.size()), [file](int fd) {
        std::vector<std::byte> taken(400'000);
        taken.resize(support::recv_all(fd, taken));
        [[maybe_unused]] const int cut = ::truncate(file.c_str(), (20 << 20) + 100);
        const std::vector<std::byte> rest = take_all(fd);
        taken.insert(taken.end(), rest.begin(), rest.end());
        return taken;
      });
      REQUIRE(!s.outcome.has_value());
      CHECK(s.outcome.error().code == code::end_of_stream);
      REQUIRE(s.arrived.size() <= (20 << 20) + 100);
      CHECK(same_bytes(s.arrived, std::span(source).first(s.arrived.size())));
      std::filesystem::remove(file);
    }
  }
}

TEST_CASE("a short payload leaves in one packet with its head, by every path") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(3, 0, 700));
    const std::vector<std::byte> head = pattern(4, 0, 200);
    sluice::send_options options = range(0, 700);
    options.head = head;
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      const splice_ways::look at(ends.ours());
      REQUIRE(w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(),
                               "source", options))
                  .has_value());
      CHECK(splice_ways::segments_sent(at.fd()) == 1);
      std::vector<std::byte> arrived(901);
      arrived.resize(static_cast<std::size_t>(
          ::recv(ends.theirs(), arrived.data(), arrived.size(), MSG_DONTWAIT)));
      REQUIRE(arrived.size() == 900);
      CHECK(same_bytes(std::span(arrived).first(200), head));
      CHECK(same_bytes(std::span(arrived).subspan(200), pattern(3, 0, 700)));
    }
  }
}

TEST_CASE("a socket that is shut down already is EPIPE, by every path") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(10, 0, 2 * block));
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      REQUIRE(::shutdown(ends.ours(), SHUT_WR) == 0);
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", range(0, 2 * block)));
      REQUIRE_FALSE(outcome.has_value());
      CHECK(outcome.error().code == EPIPE);
    }
  }
}

TEST_CASE("a range past 2^63 is refused, and nothing is sent") {
  constexpr std::uint64_t last = ~std::uint64_t{0} / 2;
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(10, 0, 100));
    const std::vector<std::byte> head = pattern(4, 0, 200);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      for (const auto& [offset, length] :
           std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
               {last, 1}, {last - 5, 10}, {0, last + 1}, {~std::uint64_t{0}, ~std::uint64_t{0}}}) {
        CAPTURE(offset);
        sluice::send_options options = range(offset, length);
        options.head = head;
        const sent s = send_range(w, options, take_all);
        REQUIRE_FALSE(s.outcome.has_value());
        CHECK(s.outcome.error().code == EINVAL);
        CHECK(s.arrived.empty());
      }
    }
  }
}

TEST_CASE("a file called unchanging that is written to meanwhile breaks the transfer") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.depth", "1"}});
    const std::vector<std::byte> source = pattern(22, 0, 7 << 20);
    const std::string file = w.at("source");
    make_file(file, source);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      for (const auto content :
           {sluice::file_content::unchanging, sluice::file_content::may_change}) {
        sluice::send_options options = range(0, source.size());
        options.content = content;
        const sent s = send_range(w, options, [file](int fd) {
          const int small = 64 << 10;
          [[maybe_unused]] const int refusal =
              ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
          std::vector<std::byte> taken(100'000);
          taken.resize(support::recv_all(fd, taken));
          std::this_thread::sleep_for(15ms);  // a tick of the kernel's clock, for the file's time
          const int opened = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
          [[maybe_unused]] const ssize_t put = ::pwrite(opened, taken.data(), 1, 0);  // the same
          ::close(opened);
          const std::vector<std::byte> rest = take_all(fd);
          taken.insert(taken.end(), rest.begin(), rest.end());
          return taken;
        });
        if (content == sluice::file_content::may_change) {
          CHECK(s.outcome.has_value());
          CHECK(same_bytes(s.arrived, source));
          continue;
        }
        REQUIRE_FALSE(s.outcome.has_value());
        CHECK(s.outcome.error().code == code::file_changed);
        CHECK(s.arrived.size() < source.size());
        CHECK(same_bytes(s.arrived, std::span(source).first(s.arrived.size())));
      }
    }
  }
}

TEST_CASE("a file is looked after from the moment it was seen, before the send begins") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(24, 0, 100'000);
    make_file(w.at("source"), source);
    sluice::file_info seen;
    const auto look = [](sluice::engine& e, std::string folder,
                         sluice::file_info& into) -> sluice::task<bool> {
      sluice::result<sluice::directory> in = co_await sluice::directory::open(e, std::move(folder));
      if (!in) co_return false;
      std::string name = "source";
      const sluice::result<sluice::file> opened = co_await in->open_file(std::move(name), &into);
      if (!opened) co_return false;
      const sluice::result<sluice::file_info> now = opened->info();
      co_return now && now->bytes == into.bytes && now->inode == into.inode &&
          now->modified_ns == into.modified_ns;
    };
    REQUIRE(w.run(look(w.engine(), w.folder().path(), seen)));
    CHECK(seen.bytes == source.size());
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      sluice::send_options options = range(0, source.size());
      options.content = sluice::file_content::unchanging;
      options.as_seen = seen;
      const sent same = send_range(w, options, take_all);
      CHECK(same.outcome.has_value());
      CHECK(same_bytes(same.arrived, source));
      options.as_seen->modified_ns -= 1;  // as if it had been written to since
      const sent other = send_range(w, options, take_all);
      REQUIRE_FALSE(other.outcome.has_value());
      CHECK(other.outcome.error().code == code::file_changed);
      CHECK(other.arrived.size() < source.size());
    }
  }
}

TEST_CASE("a file or a stream that is closed is told, and the other one is as it was") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(19, 0, block);
    make_file(w.at("source"), source);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      sluice::stream to = adopt(w.engine(), ends.take_ours());
      sluice::stream closed_stream;
      sluice::result<sluice::file> from =
          sluice::file::adopt(w.engine(), ::open(w.at("source").c_str(), O_RDONLY | O_CLOEXEC));
      REQUIRE(from.has_value());
      sluice::file closed_file;
      const auto code_of = [&w](sluice::task<sluice::result<sluice::receipt>> sending) {
        const sluice::result<sluice::receipt> r = w.run(std::move(sending));
        return r ? 0 : r.error().code;
      };
      CHECK(code_of(sluice::send_from_file(to, closed_file, range(0, block))) == EBADF);
      CHECK(code_of(sluice::send_from_file(closed_stream, *from, range(0, block))) == EBADF);
      CHECK(code_of(sluice::send_from_file(closed_stream, closed_file, range(0, 0))) == EBADF);
      std::vector<std::byte> arrived;
      peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_all(fd); });
      CHECK(code_of(sluice::send_from_file(to, *from, range(0, block))) == 0);
      to = sluice::stream();
      taker.join(w);
      CHECK(same_bytes(arrived, source));
    }
  }
}

TEST_CASE("a forced path that cannot work says so, in the receipt too, and sends nothing") {
  struct refusal {
    const char* path;
    const char* reason;
  };
  for (setting on : every_setting()) {
    on.hidden = "splice";
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(19, 0, 100));
    std::vector<refusal> all{{"splice", "splice or sendfile is not allowed here"}};
    if (!on.direct) all.push_back({"direct", "the filesystem has no O_DIRECT for this file"});
    for (const refusal& wanted : all) {
      CAPTURE(wanted.path);
      REQUIRE(w.engine().set_knob("sluice.send.path", wanted.path).has_value());
      stream_pair ends = stream_pair::tcp();
      sluice::stream to = adopt(w.engine(), ends.take_ours());
      const int fd = ::open(w.at("source").c_str(), O_RDONLY | O_CLOEXEC);
      sluice::result<sluice::file> from = sluice::file::adopt(w.engine(), fd);
      REQUIRE(from.has_value());
      sluice::receipt progress;
      progress.bytes = 12;  // of another transfer
      const sluice::result<sluice::receipt> r =
          w.run(sluice::send_from_file(to, *from, range(0, 100), &progress));
      REQUIRE_FALSE(r.has_value());
      CHECK(r.error().code == code::path_unavailable);
      CHECK(std::string(r.error().where) == wanted.reason);
      CHECK(std::string(name(progress.path)) == wanted.path);
      CHECK(std::string(progress.reason) == wanted.reason);
      CHECK(progress.bytes == 0);
      to = sluice::stream();
      w.settle();
      CHECK(take_all(ends.theirs()).empty());
    }
  }
}

TEST_CASE("many downloads share a few blocks and all of them finish") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}});
    REQUIRE(w.engine().core().blocks().blocks() < 4);
    const std::vector<std::byte> source = pattern(20, 0, 4 * block + 99);
    make_file(w.at("source"), source);
    constexpr std::size_t downloads = 24;
    std::vector<std::vector<std::byte>> arrived(downloads);
    std::vector<std::unique_ptr<peer>> takers;
    std::size_t ended = 0;
    std::size_t whole = 0;
    for (std::size_t i = 0; i < downloads; ++i) {
      stream_pair ends = stream_pair::tcp();
      takers.push_back(std::make_unique<peer>(
          ends.take_theirs(), [&into = arrived[i]](int fd) { into = take_all(fd); }));
      w.engine().start(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                  w.folder().path(), "source", range(0, source.size())),
                       [&ended, &whole](const sluice::result<sluice::receipt>& r) {
                         ++ended;
                         if (r) ++whole;
                       });
    }
    // Senders that keep a block while they wait for the next one would wait for each other.
    const auto last = std::chrono::steady_clock::now() + 10s;
    while (ended < downloads && std::chrono::steady_clock::now() < last) w.engine().run_once(20ms);
    CHECK(ended == downloads);
    w.engine().cancel_all();
    w.until([&w] { return w.engine().task_count() == 0; });
    for (const auto& taker : takers) taker->join(w);
    CHECK(whole == downloads);
    for (const std::vector<std::byte>& a : arrived) CHECK(same_bytes(a, source));
  }
}

namespace {

sluice::task<sluice::result<std::size_t>> read_after_send(sluice::engine& e, sluice::stream to,
                                                          std::filesystem::path folder,
                                                          std::uint64_t length) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  sluice::result<sluice::file> from = co_await in->open_file("source");
  const sluice::send_options options = range(0, length);
  const sluice::result<sluice::receipt> moved = co_await sluice::send_from_file(to, *from, options);
  if (!moved) co_return std::unexpected(moved.error());
  std::vector<std::byte> few(13);
  sluice::op_await reading = from->read(few, 7);
  co_return co_await reading;
}

}  // namespace

TEST_CASE("a sent file can be read at any place, whatever its path was") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      world w(on, {{"sluice.send.path", path}});
      make_file(w.at("source"), pattern(21, 0, block));
      stream_pair ends = stream_pair::tcp();
      peer taker(ends.take_theirs(), [](int fd) { take_all(fd); });
      const sluice::result<std::size_t> read = w.run(read_after_send(
          w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(), block));
      REQUIRE(read.has_value());
      CHECK(*read == 13);
    }
  }
}

TEST_CASE("a download for which no block becomes free says ENOBUFS, before its head has left") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}, {"sluice.send.timeout_ms", "100"}});
    make_file(w.at("source"), pattern(1, 0, 2 * block));
    std::vector<sluice::lease> taken;
    while (sluice::lease one = w.engine().core().blocks().try_take()) {
      taken.push_back(std::move(one));
    }
    const std::vector<std::byte> head = pattern(2, 0, 100);
    sluice::send_options options = range(0, 2 * block);
    options.head = head;
    stream_pair ends = stream_pair::tcp();
    std::vector<std::byte> arrived;
    peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_slowly(fd); });
    const sluice::result<sluice::receipt> outcome = w.run(send_named(
        w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(), "source", options));
    taker.join(w);
    REQUIRE(!outcome.has_value());
    CHECK(outcome.error().code == ENOBUFS);
    CHECK(arrived.empty());
    taken.clear();
  }
}

namespace {

void set_buffer(int fd, int option) {
  const int bytes = 32 * 1024;
  REQUIRE(::setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes) == 0);
}

}  // namespace

TEST_CASE("who takes no whole block in its time while others wait for one is too slow") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.memory.arena_bytes", "1M"}, {"sluice.send.timeout_ms", "1000"}});
    make_file(w.at("source"), pattern(1, 0, 64 * block));
    const std::size_t blocks = w.engine().core().blocks().blocks();
    std::atomic<bool> over = false;
    std::vector<std::unique_ptr<peer>> slow;
    std::vector<int> verdicts;
    for (std::size_t i = 0; i < blocks; ++i) {
      stream_pair ends = stream_pair::tcp();
      set_buffer(ends.ours(), SO_SNDBUF);
      set_buffer(ends.theirs(), SO_RCVBUF);
      slow.push_back(std::make_unique<peer>(ends.take_theirs(), [&over](int fd) {
        std::byte some[2048];
        while (!over && ::recv(fd, some, sizeof some, 0) > 0) std::this_thread::sleep_for(20ms);
      }));
      w.engine().start(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                  w.folder().path(), "source", range(0, 64 * block)),
                       [&verdicts](const sluice::result<sluice::receipt>& r) {
                         verdicts.push_back(r ? 0 : r.error().code);
                       });
    }
    w.until([&] { return w.counter("sluice.memory.leases_in_use") == blocks; });
    stream_pair ends = stream_pair::tcp();
    std::vector<std::byte> arrived;
    peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_slowly(fd); });
    const auto fast = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                       w.folder().path(), "source", range(0, 3 * block)),
                            20s);
    taker.join(w);
    CHECK_MESSAGE(fast.has_value(), sluice::describe(fast.error()));
    CHECK(same_bytes(arrived, pattern(1, 0, 3 * block)));
    CHECK(std::ranges::find(verdicts, int{code::too_slow}) != verdicts.end());
    over = true;
    w.engine().cancel_all();
    w.until([&] { return verdicts.size() == blocks; });
  }
}

TEST_CASE("sends by the page cache share a file object, one that may be direct has it alone") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on);
    make_file(w.at("source"), pattern(1, 0, 16 * block));
    const int fd = ::open(w.at("source").c_str(), O_RDONLY | O_CLOEXEC);
    sluice::result<sluice::file> from = sluice::file::adopt(w.engine(), fd);
    REQUIRE(from.has_value());
    std::vector<stream_pair> pairs;
    std::vector<sluice::stream> streams;
    std::vector<std::optional<sluice::result<sluice::receipt>>> told(2);
    for (std::size_t i = 0; i < 2; ++i) {
      pairs.push_back(stream_pair::tcp());
      streams.push_back(adopt(w.engine(), pairs[i].take_ours()));
    }
    for (std::size_t i = 0; i < 2; ++i) {
      w.engine().start(sluice::send_from_file(streams[i], *from, range(0, 16 * block)),
                       [&told, i](sluice::result<sluice::receipt> r) { told[i].emplace(r); });
    }
    for (int i = 0; i < 5; ++i) w.engine().run_once(2ms);
    REQUIRE(!told[0].has_value());  // the peers take nothing yet
    REQUIRE(!told[1].has_value());
    REQUIRE(w.engine().set_knob("sluice.send.direct_min_bytes", "0").has_value());
    stream_pair third = stream_pair::tcp();
    sluice::stream to = adopt(w.engine(), third.take_ours());
    const sluice::result<sluice::receipt> direct =
        w.run(sluice::send_from_file(to, *from, range(0, block)));
    REQUIRE(!direct.has_value());
    CHECK(direct.error().code == EBUSY);
    // Long enough, but never direct.
    sluice::send_options cached = range(0, block);
    cached.cache = sluice::cache_policy::cached;
    CHECK(w.run(sluice::send_from_file(to, *from, cached)).has_value());
    REQUIRE(w.engine().set_knob("sluice.send.path", "copy").has_value());
    CHECK(w.run(sluice::send_from_file(to, *from, range(0, block))).has_value());
    std::vector<std::vector<std::byte>> arrived(2);
    {
      peer first(pairs[0].take_theirs(), [&](int at) { arrived[0] = take_slowly(at); });
      peer second(pairs[1].take_theirs(), [&](int at) { arrived[1] = take_slowly(at); });
      w.until([&told] { return told[0].has_value() && told[1].has_value(); });
      streams.clear();
    }
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(told[i]->has_value());
      CHECK(same_bytes(arrived[i], pattern(1, 0, 16 * block)));
    }
  }
}

TEST_CASE("a descriptor that came with O_DIRECT is sent like others, wherever the range lies") {
  for (const setting& on : every_setting()) {
    if (!on.direct) continue;
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(13, 0, 2 * block);
    make_file(w.at("source"), source);
    for (const char* path : {"auto", "copy", "direct", "splice"}) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      std::vector<std::byte> arrived;
      peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_all(fd); });
      sluice::stream to = adopt(w.engine(), ends.take_ours());
      sluice::result<sluice::file> from = sluice::file::adopt(
          w.engine(), ::open(w.at("source").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
      REQUIRE(from.has_value());
      CHECK(w.run(sluice::send_from_file(to, *from, range(777, block + 1))).has_value());
      to = sluice::stream();
      taker.join(w);
      CHECK(same_bytes(arrived, std::span(source).subspan(777, block + 1)));
    }
  }
}

namespace {

// As send_range, with small socket buffers, so that the sender sees how fast the peer takes. The
// peer takes so many bytes at a time, and pauses, until the send has ended.
sent send_throttled(world& w, const sluice::send_options& options, int send_buffer,
                    std::size_t bytes, std::chrono::milliseconds pause) {
  stream_pair ends = stream_pair::tcp();
  constexpr int receive_buffer = 16 * 1024;
  ::setsockopt(ends.ours(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
  ::setsockopt(ends.theirs(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  sent s;
  std::atomic<bool> over{false};
  peer taker(ends.take_theirs(), [&s, &over, bytes, pause](int fd) {
    std::vector<std::byte> piece(bytes);
    while (true) {
      const std::size_t got = support::recv_all(fd, piece);
      s.arrived.insert(s.arrived.end(), piece.begin(),
                       piece.begin() + static_cast<std::ptrdiff_t>(got));
      if (got < bytes) return;
      if (!over) std::this_thread::sleep_for(pause);
    }
  });
  s.outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(),
                               "source", options));
  over = true;
  taker.join(w);
  w.settle();
  return s;
}

}  // namespace

TEST_CASE("a minimum rate above a block per interval is judged over many blocks that are sent") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "300"}, {"sluice.send.rate_min_bytes", "16M"}});
    make_file(w.at("source"), pattern(40, 0, 16 * block));
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      const sent slow = send_throttled(w, range(0, 16 * block), 32 * 1024, 65'536, 20ms);
      REQUIRE(!slow.outcome.has_value());
      CHECK(slow.outcome.error().code == code::too_slow);
      const sent fast = send_range(w, range(0, 16 * block), take_all);
      CHECK(fast.outcome.has_value());
    }
  }
}

namespace {

// Gives the socket bytes until it has taken none for a while; how many.
std::size_t stuff(int fd) {
  const std::vector<std::byte> bytes(65'536);
  std::size_t all = 0;
  for (int idle = 0; idle < 8; ++idle) {
    const ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) all += static_cast<std::size_t>(put);
    if (put > 0) idle = 0;
    std::this_thread::sleep_for(10ms);
  }
  return all;
}

// A peer of a full socket that takes 4 KiB at a time, slowly until it is told.
struct slow_taker {
  std::vector<std::byte> arrived;
  std::atomic<bool> hurries{false};
  void operator()(int fd) {
    std::vector<std::byte> piece(4096);
    while (const std::size_t got = support::recv_all(fd, piece)) {
      arrived.insert(arrived.end(), piece.begin(),
                     piece.begin() + static_cast<std::ptrdiff_t>(got));
      if (!hurries) std::this_thread::sleep_for(30ms);
    }
  }
};

}  // namespace

// Of a send buffer of 512 KiB, full from what was sent before, a third must be free before the
// socket is writable: at this peer's speed that takes longer than an interval.
TEST_CASE("a peer that takes less in an interval than makes the socket writable is not silent") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "900"}});
    const std::vector<std::byte> source = pattern(41, 0, 100'000);
    make_file(w.at("source"), source);
    for (const std::string& path : paths_of(on)) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      constexpr int send_buffer = 256 * 1024;
      constexpr int receive_buffer = 16 * 1024;
      ::setsockopt(ends.ours(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
      ::setsockopt(ends.theirs(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
      const std::size_t before = stuff(ends.ours());
      slow_taker slow;
      peer taker(ends.take_theirs(), [&slow](int fd) { slow(fd); });
      sluice::send_options options = range(0, source.size());
      options.head = std::span(source).first(10);
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", options));
      slow.hurries = true;
      taker.join(w);
      w.settle();
      CHECK((outcome ? 0 : outcome.error().code) == 0);
      REQUIRE(slow.arrived.size() == before + 10 + source.size());
      CHECK(same_bytes(std::span(slow.arrived).subspan(before + 10), source));
    }
  }
}
