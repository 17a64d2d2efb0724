// File to socket by splice, whoever splices: send_test.cpp runs what all paths have in common.
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>

#include "conformance/download.hpp"
#include "transfer/splice_ways.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

void evict(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::fsync(fd) == 0);
  REQUIRE(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
  ::close(fd);
}

// While another send of the same engine is under way.
sent send_range_beside(world& w, const sluice::send_options& options) {
  stream_pair ends = stream_pair::tcp();
  sent s;
  peer taker(ends.take_theirs(), [&s](int fd) { s.arrived = take_all(fd); });
  s.outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(),
                               "source", options));
  taker.join(w);
  return s;
}

template <class Check>
void for_each_way(knob_list more, Check check) {
  splice_ways::for_each("sluice.send.path", more, check);
}

}  // namespace

TEST_CASE("every length around three pages arrives whole behind its head, from any offset") {
  for_each_way({}, [](world& w, const std::string& via) {
    const std::vector<std::byte> source = pattern(1, 0, 20'000);
    make_file(w.at("source"), source);
    const std::vector<std::byte> head = pattern(2, 0, 333);
    for (const std::uint64_t length : splice_ways::small_lengths()) {
      CAPTURE(length);
      const std::uint64_t offset = length % 3 == 0 ? 0 : length % 3 == 1 ? 1 : 4095;
      sluice::send_options options = range(offset, length);
      options.head = head;
      const sent s = send_range(w, options, take_all);
      REQUIRE(s.outcome.has_value());
      std::vector<std::byte> wanted = head;
      wanted.insert(wanted.end(), source.begin() + static_cast<std::ptrdiff_t>(offset),
                    source.begin() + static_cast<std::ptrdiff_t>(offset + length));
      CHECK(same_bytes(s.arrived, wanted));
      CHECK(s.outcome->bytes == length);
      CHECK(s.outcome->copies == 0);
      CHECK(s.outcome->copied_bytes == 0);
      // The head alone, the last part, and in front of that the rest in one call or, through a
      // pipe, two.
      const std::uint64_t last = length == 0 ? 0 : (offset + length - 1) % 2048 + 1;
      const std::uint64_t spliced = length <= last ? 0 : via == "ring" ? 3 : 2;
      CHECK(s.outcome->misrouted_bytes == std::min(length, last));
      CHECK(s.outcome->ops >= 1 + (length == 0 ? 0 : 1) + spliced);
      CHECK(s.outcome->ops <= 1 + (length == 0 ? 0 : 2) + spliced + s.outcome->short_ops);
    }
    CHECK(w.counter("sluice.send.transfers_splice") == w.counter("sluice.send.transfers"));
  });
}

TEST_CASE("head and payload leave in one packet") {
  for_each_way({}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(3, 0, 700));
    const std::vector<std::byte> head = pattern(4, 0, 200);
    sluice::send_options options = range(0, 700);
    options.head = head;
    stream_pair ends = stream_pair::tcp();
    const splice_ways::look at(ends.ours());
    const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                          w.folder().path(), "source", options));
    REQUIRE(outcome.has_value());
    CHECK(splice_ways::segments_sent(at.fd()) == 1);
    std::vector<std::byte> arrived(901);
    arrived.resize(static_cast<std::size_t>(
        ::recv(ends.theirs(), arrived.data(), arrived.size(), MSG_DONTWAIT)));
    REQUIRE(arrived.size() == 900);
    CHECK(same_bytes(std::span(arrived).first(200), head));
    CHECK(same_bytes(std::span(arrived).subspan(200), pattern(3, 0, 700)));
  });
}

TEST_CASE("a long file passes socket buffers and pipes many times over, to a slow peer too") {
  for_each_way({{"sluice.splice.pipe_bytes", "64K"}, {"sluice.splice.chunk_bytes", "300001"}},
               [](world& w, const std::string& via) {
                 const std::vector<std::byte> source = pattern(5, 0, (7 << 20) + 13);
                 make_file(w.at("source"), source);
                 const sent s = send_range(w, range(0, source.size()), [](int fd) {
                   // Left to grow, the two buffers may hold all of it, and none is ever full.
                   const int small = 64 << 10;
                   [[maybe_unused]] const int refusal =
                       ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
                   std::this_thread::sleep_for(50ms);
                   return take_with_pauses(fd, 1ms);
                 });
                 REQUIRE(s.outcome.has_value());
                 CHECK(same_bytes(s.arrived, source));
                 CHECK(s.outcome->short_ops > 0);
                 if (via == "ring") {
                   CHECK(w.counter("sluice.splice.pipes_taken") >= source.size() / 65'536);
                   CHECK(w.counter("sluice.splice.pipes") == 1);
                 } else {
                   CHECK(w.counter("sluice.splice.pipes_taken") == 0);
                 }
               });
}

TEST_CASE("what is not in the page cache is left to a worker thread, and arrives") {
  for_each_way({}, [](world& w, const std::string& via) {
    const std::vector<std::byte> source = pattern(6, 0, (4 << 20) + 77);
    make_file(w.at("source"), source);
    evict(w.at("source"));
    const sent s = send_range(w, range(5, source.size() - 5), take_all);
    REQUIRE(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, std::span(source).subspan(5)));
    const std::uint64_t absent = w.counter("sluice.splice.absent_chunks");
    if (via == "inline" && w.at("x").starts_with("/dev/shm")) return;  // is never evicted
    CHECK((absent > 0) == (via == "inline"));
  });
}

// More is asked for at a time while the answers are yes: it must not hide what is missing.
TEST_CASE("of a file whose end is not in the page cache the loop sends the beginning itself") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    if (on.folder == "/dev/shm") continue;  // is never evicted
    world w(on, {{"sluice.send.path", "splice"},
                 {"sluice.splice.via", "inline"},
                 {"sluice.splice.chunk_bytes", "1M"}});
    const std::vector<std::byte> source = pattern(17, 0, 24 << 20);
    make_file(w.at("source"), source);
    const int fd = ::open(w.at("source").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(::fsync(fd) == 0);
    REQUIRE(::posix_fadvise(fd, 18 << 20, 0, POSIX_FADV_DONTNEED) == 0);
    ::close(fd);
    const sent s = send_range(w, range(0, source.size()), take_all);
    REQUIRE(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, source));
    CHECK(w.counter("sluice.splice.absent_chunks") > 0);
    CHECK(w.counter("sluice.splice.inline_calls") >= 17);
  }
}

TEST_CASE("a cached file is sent by the loop itself, without a thread") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.path", "splice"}, {"sluice.splice.via", "inline"}});
    const std::vector<std::byte> source = pattern(7, 0, 3 << 20);
    make_file(w.at("source"), source);
    const sent s = send_range(w, range(0, source.size()), take_all);
    REQUIRE(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, source));
    if (w.counter("sluice.splice.absent_chunks") > 0) {
      MESSAGE("this filesystem does not tell what is cached: ", on.name);
      continue;
    }
    CHECK(w.counter("sluice.splice.inline_calls") >= 3);
  }
}

TEST_CASE("auto splices what is long and unchanging, and only where splicing is allowed") {
  for (const setting& plain : every_setting()) {
    for (const std::string hidden : {"", "splice"}) {
      setting on = plain;
      on.hidden = hidden;
      CAPTURE(on.name);
      CAPTURE(hidden);
      world w(on, {{"sluice.send.splice_min_bytes", "64K"}});
      make_file(w.at("source"), pattern(8, 0, 100'000));
      const auto path_of = [&w](sluice::send_options options) {
        const sent s = send_range(w, options, take_all);
        REQUIRE(s.outcome.has_value());
        CHECK(same_bytes(s.arrived, pattern(8, options.offset, options.length)));
        return std::string(name(s.outcome->path));
      };
      const bool can = hidden.empty();
      const auto unchanging = [](sluice::send_options options) {
        options.content = sluice::file_content::unchanging;
        return options;
      };
      CHECK(path_of(unchanging(range(0, 65'536))) == (can ? "splice" : "copy"));
      CHECK(path_of(unchanging(range(0, 65'535))) == "copy");
      const sluice::send_options changing = range(0, 100'000);
      CHECK(path_of(changing) == "copy");
      CHECK(w.counter("sluice.send.transfers_copy") == (can ? 2 : 3));
      REQUIRE(w.engine().set_knob("sluice.send.path", "splice").has_value());
      if (can) {
        CHECK(path_of(changing) == "splice");
      } else {
        const sent s = send_range(w, changing, take_all);
        REQUIRE_FALSE(s.outcome.has_value());
        CHECK(s.outcome.error().code == code::path_unavailable);
        CHECK(std::string(s.outcome.error().where).find("not allowed") != std::string::npos);
        CHECK(s.arrived.empty());
      }
    }
  }
}

TEST_CASE("a peer that closes or resets is told without a signal, and leaves no pipe behind") {
  ::signal(SIGPIPE, SIG_DFL);  // a SIGPIPE would end this process
  for_each_way({}, [](world& w, const std::string&) {
    const std::vector<std::byte> source = pattern(9, 0, 16 << 20);
    make_file(w.at("source"), source);
    for (const bool reset : {false, true}) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{300'000}}) {
        CAPTURE(count);
        const sent s = send_range(w, range(0, source.size()), [count, reset](int fd) {
          std::vector<std::byte> taken(count);
          taken.resize(support::recv_all(fd, taken));
          if (reset) support::reset_at_close(fd);
          return taken;
        });
        REQUIRE_FALSE(s.outcome.has_value());
        const int why = s.outcome.error().code;
        CHECK((why == EPIPE || why == ECONNRESET));
        CHECK(same_bytes(s.arrived, std::span(source).first(s.arrived.size())));
      }
    }
  });
}

TEST_CASE("to a socket that takes no splice path auto copies, and a forced one says why not") {
  for_each_way({{"sluice.send.splice_min_bytes", "4K"}}, [](world& w, const std::string&) {
    const std::vector<std::byte> source = pattern(12, 0, 100'000);
    make_file(w.at("source"), source);
    const std::vector<std::byte> head = pattern(13, 0, 333);
    std::vector<std::byte> all = head;
    all.insert(all.end(), source.begin(), source.end());
    for (const char* path : {"splice", "auto"}) {
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      stream_pair ends = stream_pair::tcp();
      // To what only appends splice(2) and sendfile(2) say EINVAL.
      REQUIRE(::fcntl(ends.ours(), F_SETFL, O_APPEND) == 0);
      std::vector<std::byte> arrived;
      peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_all(fd); });
      sluice::send_options options = range(0, source.size());
      options.content = sluice::file_content::unchanging;
      options.head = head;
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", options));
      taker.join(w);
      w.settle();
      constexpr std::string_view refused = "splice refused by the filesystem or socket";
      if (std::string_view(path) == "splice") {
        REQUIRE_FALSE(outcome.has_value());
        CHECK(outcome.error().code == code::path_unavailable);
        CHECK(outcome.error().where == refused);
        CHECK(same_bytes(arrived, head));
      } else {
        REQUIRE(outcome.has_value());
        CHECK(std::string_view(name(outcome->path)) == "copy");
        CHECK(outcome->reason == refused);
        CHECK(same_bytes(arrived, all));
      }
    }
  });
}

TEST_CASE("a socket that is shut down already is EPIPE") {
  for_each_way({}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(10, 0, 5000));
    stream_pair ends = stream_pair::tcp();
    REQUIRE(::shutdown(ends.ours(), SHUT_WR) == 0);
    const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                          w.folder().path(), "source", range(0, 5000)));
    REQUIRE_FALSE(outcome.has_value());
    CHECK(outcome.error().code == EPIPE);
  });
}

TEST_CASE("a file that is cut or changed while its pages wait for the peer never arrives whole") {
  struct change {
    std::uint64_t cut_at;
    bool grown_again;
    int failure;
  };
  for_each_way({{"sluice.splice.pipe_bytes", "64K"}}, [](world& w, const std::string&) {
    // More than the socket takes at once, so that the cut comes in the middle; then all the rest.
    const std::vector<std::byte> source = pattern(11, 0, 7 << 20);
    const std::string file = w.at("source");
    for (const change& c :
         {change{50, false, code::end_of_stream},
          change{source.size() - 1, false, code::end_of_stream},
          change{50, true, code::file_changed}, change{source.size(), true, code::file_changed}}) {
      CAPTURE(c.cut_at);
      CAPTURE(c.grown_again);
      make_file(file, source);
      sluice::send_options options = range(0, source.size());
      options.content = sluice::file_content::unchanging;
      const sent s = send_range(w, options, [&](int fd) {
        const int small = 64 << 10;
        [[maybe_unused]] const int refusal =
            ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        std::vector<std::byte> taken(100'000);
        taken.resize(support::recv_all(fd, taken));
        std::this_thread::sleep_for(15ms);  // a tick of the kernel's clock, for the file's time
        [[maybe_unused]] int changed = ::truncate(file.c_str(), static_cast<off_t>(c.cut_at));
        if (c.grown_again) changed = ::truncate(file.c_str(), static_cast<off_t>(source.size()));
        const std::vector<std::byte> rest = take_all(fd);
        taken.insert(taken.end(), rest.begin(), rest.end());
        return taken;
      });
      REQUIRE_FALSE(s.outcome.has_value());
      // A thread that splices may meet the file while it is short.
      const int failure = s.outcome.error().code;
      CHECK((failure == c.failure || (c.cut_at == 50 && failure == code::end_of_stream)));
      CHECK(s.arrived.size() < source.size());
      // What left before the cut is the file's, and where that took nothing away all of it.
      const std::size_t right = c.cut_at == 50 ? 100'000 : s.arrived.size();
      REQUIRE(s.arrived.size() >= right);
      CHECK(same_bytes(std::span(s.arrived).first(right), std::span(source).first(right)));
      std::filesystem::remove(file);
    }
  });
}

TEST_CASE("a silent peer gives ETIMEDOUT, and one below the minimum rate is too slow") {
  for_each_way({{"sluice.send.timeout_ms", "60"}}, [](world& w, const std::string&) {
    make_file(w.at("source"), pattern(12, 0, 24 << 20));
    stream_pair ends = stream_pair::tcp();
    const auto silent = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                         w.folder().path(), "source", range(0, 24 << 20)));
    REQUIRE_FALSE(silent.has_value());
    CHECK(silent.error().code == ETIMEDOUT);
    ends.close_theirs();
    w.settle();
    splice_ways::check_pipes(w);

    REQUIRE(w.engine().set_knob("sluice.send.rate_min_bytes", "1G").has_value());
    const sent slow = send_range(w, range(0, 24 << 20), [](int fd) {
      std::vector<std::byte> taken;
      std::vector<std::byte> buffer(200'000);
      while (true) {
        const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (got <= 0) return taken;
        std::this_thread::sleep_for(10ms);
      }
    });
    REQUIRE_FALSE(slow.outcome.has_value());
    CHECK((slow.outcome.error().code == code::too_slow || slow.outcome.error().code == ETIMEDOUT));
  });
}

TEST_CASE("cancelled after any number of turns a send ends once") {
  for_each_way({{"sluice.splice.pipes_max", "1"}}, [](world& w, const std::string&) {
    const std::vector<std::byte> source = pattern(13, 0, 12 << 20);
    make_file(w.at("source"), source);
    int cancelled = 0;
    for (int turns = 0; turns < 30; turns += turns < 12 ? 1 : 6) {
      CAPTURE(turns);
      stream_pair ends = stream_pair::tcp();
      const splice_ways::look at(ends.ours());
      std::vector<std::byte> arrived;
      std::optional<peer> taker;
      taker.emplace(ends.take_theirs(), [&arrived](int fd) {
        std::vector<std::byte> buffer(3 << 20);
        arrived.assign(buffer.begin(),
                       buffer.begin() + static_cast<std::ptrdiff_t>(support::recv_all(fd, buffer)));
      });
      int told = 0;
      sluice::result<sluice::receipt> last = sluice::fail(EINPROGRESS, "test");
      const sluice::task_handle handle =
          w.engine().start(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                      w.folder().path(), "source", range(0, source.size())),
                           [&](sluice::result<sluice::receipt> r) {
                             ++told;
                             last = std::move(r);
                           });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; });
      ::shutdown(at.fd(), SHUT_RDWR);
      taker.reset();
      w.settle();
      splice_ways::check_pipes(w);
      CHECK(told == 1);
      CHECK(same_bytes(arrived, std::span(source).first(arrived.size())));
      if (!last) {
        const int why = last.error().code;
        CHECK((why == ECANCELED || why == EPIPE || why == ECONNRESET));
        ++cancelled;
      }
    }
    CHECK(cancelled > 0);
  });
}

TEST_CASE("many sends share one pipe and none gets bytes of another") {
  for_each_way({{"sluice.splice.pipes_max", "1"}}, [](world& w, const std::string& via) {
    const std::vector<std::byte> source = pattern(14, 0, 3 << 20);
    make_file(w.at("source"), source);
    constexpr std::size_t sends = 8;
    std::vector<std::vector<std::byte>> arrived(sends);
    std::vector<std::unique_ptr<peer>> takers;
    std::size_t ended = 0;
    for (std::size_t i = 0; i < sends; ++i) {
      stream_pair ends = stream_pair::tcp();
      takers.push_back(std::make_unique<peer>(ends.take_theirs(), [&into = arrived[i], i](int fd) {
        if (i % 2 == 1) {  // leaves in the middle
          std::vector<std::byte> few(100'000);
          support::recv_all(fd, few);
          return;
        }
        into = take_all(fd);
      }));
      w.engine().start(
          send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(), "source",
                     range(i * 1000, source.size() - i * 1000)),
          [&ended](const sluice::result<sluice::receipt>&) { ++ended; });
    }
    w.until([&ended] { return ended == sends; });
    for (const auto& taker : takers) taker->join(w);
    for (std::size_t i = 0; i < sends; i += 2) {
      CHECK(same_bytes(arrived[i], std::span(source).subspan(i * 1000)));
    }
    w.settle();
    splice_ways::check_pipes(w);
    if (via == "ring") CHECK(w.counter("sluice.splice.pipes") <= 1);
  });
}

TEST_CASE("who takes no whole pipe in its time while others wait for one is too slow") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.path", "splice"},
                 {"sluice.splice.via", "ring"},
                 {"sluice.splice.pipes_max", "1"},
                 {"sluice.splice.pipe_bytes", "1M"},
                 {"sluice.send.timeout_ms", "300"}});
    const std::vector<std::byte> source = pattern(15, 0, 8 << 20);
    make_file(w.at("source"), source);
    stream_pair slow_ends = stream_pair::tcp();
    const int small = 32 << 10;
    for (const auto& [fd, option] :
         {std::pair{slow_ends.ours(), SO_SNDBUF}, std::pair{slow_ends.theirs(), SO_RCVBUF}}) {
      REQUIRE(::setsockopt(fd, SOL_SOCKET, option, &small, sizeof small) == 0);
    }
    std::atomic<bool> over = false;
    peer slow(slow_ends.take_theirs(), [&over](int fd) {
      std::byte some[8192];  // a pipeful in 2.5 s
      while (!over && ::recv(fd, some, sizeof some, 0) > 0) std::this_thread::sleep_for(20ms);
    });
    int verdict = 0;
    w.engine().start(send_named(w.engine(), adopt(w.engine(), slow_ends.take_ours()),
                                w.folder().path(), "source", range(0, source.size())),
                     [&verdict](const sluice::result<sluice::receipt>& r) {
                       verdict = r ? -1 : r.error().code;
                     });
    w.until([&w] { return w.engine().core().pipes().taken() == 1; });
    const sent fast = send_range_beside(w, range(0, 100'000));
    CHECK(fast.outcome.has_value());
    CHECK(same_bytes(fast.arrived, std::span(source).first(100'000)));
    w.until([&verdict] { return verdict != 0; });
    over = true;
    CHECK(verdict == code::too_slow);
  }
}

TEST_CASE("the time that a send waits for a pipe is not held against its peer") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.path", "splice"},
                 {"sluice.splice.via", "ring"},
                 {"sluice.splice.pipes_max", "1"},
                 {"sluice.send.timeout_ms", "300"},
                 {"sluice.send.rate_min_bytes", "2M"}});
    const std::vector<std::byte> source = pattern(17, 0, 600'000);
    make_file(w.at("source"), source);
    std::optional<sluice::result<sluice::pipe_lease>> taken = w.engine().core().pipes().try_take();
    REQUIRE((taken && *taken));
    w.engine().spawn(splice_ways::hold(w.engine(), std::move(**taken), 400ms));
    const sent s = send_range(w, range(0, source.size()), take_all);
    CHECK(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, source));
  }
}

TEST_CASE("a send for which no pipe becomes free says ENOBUFS") {
  for (const setting& on : every_setting()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.path", "splice"},
                 {"sluice.splice.via", "ring"},
                 {"sluice.splice.pipes_max", "1"},
                 {"sluice.send.timeout_ms", "50"}});
    make_file(w.at("source"), pattern(16, 0, 10'000));
    std::optional<sluice::result<sluice::pipe_lease>> taken = w.engine().core().pipes().try_take();
    REQUIRE((taken && *taken));
    const sent s = send_range(w, range(0, 10'000), take_all);
    REQUIRE_FALSE(s.outcome.has_value());
    CHECK(s.outcome.error().code == ENOBUFS);
    CHECK(s.arrived.empty());
  }
}
