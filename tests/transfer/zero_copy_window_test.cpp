#include "transfer/zero_copy_window.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "conformance/download.hpp"

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::uint64_t block = 256 * 1024;  // of the engines here

std::vector<setting> ring_settings() {
  std::vector<setting> all = every_setting();
  std::erase_if(all, [](const setting& s) { return s.backend != "ring"; });
  return all;
}

std::uint64_t tried_bytes(const world& w) {
  return w.counter("sluice.send.zero_copy_bytes") + w.counter("sluice.send.zero_copy_copied_bytes");
}

std::vector<std::byte> part_of(const std::vector<std::byte>& all, std::uint64_t offset,
                               std::uint64_t length) {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(offset);
  return {first, first + static_cast<std::ptrdiff_t>(length)};
}

// A peer that takes nothing and stays until it is let go.
class silent_taker {
 public:
  explicit silent_taker(stream_pair& ends) : fd_(ends.take_theirs()) {}
  silent_taker(const silent_taker&) = delete;
  silent_taker& operator=(const silent_taker&) = delete;
  ~silent_taker() { ::close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

// As send_range, to a peer that seems to be on another machine: its address is not ours.
sent send_afar(world& w, const sluice::send_options& options) {
  sockaddr_in address{};
  const int listening = support::listen_on_loopback(address);
  const int theirs = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
  REQUIRE(::bind(theirs, reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0);
  REQUIRE(::connect(theirs, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const int ours = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  ::close(listening);
  sent s;
  peer taker(theirs, [&s](int fd) { s.arrived = take_all(fd); });
  s.outcome =
      w.run(send_named(w.engine(), adopt(w.engine(), ours), w.folder().path(), "source", options));
  taker.join(w);
  w.settle();
  return s;
}

}  // namespace

TEST_CASE("always: every range arrives behind its head, and every byte was tried without a copy") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}});
    const std::vector<std::byte> source = pattern(31, 0, 9 * block + 1234);
    make_file(w.at("source"), source);
    const std::vector<std::byte> head = pattern(32, 0, 333);
    for (const char* path : {"copy", "direct"}) {
      if (!on.direct && std::string_view(path) == "direct") continue;
      CAPTURE(path);
      REQUIRE(w.engine().set_knob("sluice.send.path", path).has_value());
      for (const auto& [offset, length] :
           std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{{0, 0},
                                                                          {0, 1},
                                                                          {511, 514},
                                                                          {4095, block},
                                                                          {block, block},
                                                                          {0, source.size()},
                                                                          {3, 9 * block}}) {
        CAPTURE(offset);
        CAPTURE(length);
        for (const bool headed : {false, true}) {
          const std::uint64_t before = tried_bytes(w);
          sluice::send_options options = range(offset, length);
          if (headed) options.head = head;
          const sent s = send_range(w, options, take_all);
          REQUIRE(s.outcome.has_value());
          std::vector<std::byte> wanted = headed ? head : std::vector<std::byte>();
          const std::vector<std::byte> body = part_of(source, offset, length);
          wanted.insert(wanted.end(), body.begin(), body.end());
          CHECK(same_bytes(s.arrived, wanted));
          CHECK(s.outcome->bytes == length);
          CHECK(tried_bytes(w) - before == length);
          // On loopback the kernel copies: the receipt says what was, not what was asked for.
          if (s.outcome->zero_copy_bytes == 0)
            CHECK(s.outcome->copies == (std::string_view(path) == "copy" ? 2 : 1));
        }
      }
    }
    CHECK(w.counter("sluice.send.zero_copy_resets") == 0);
  }
}

TEST_CASE("auto: a stream whose sends are copied goes back to plain ones, and is counted once") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy_min_bytes", "1M"}});
    const std::vector<std::byte> source = pattern(33, 0, 40 * block);
    make_file(w.at("source"), source);
    // On this machine it would be copied after all.
    CHECK(same_bytes(send_range(w, range(0, source.size()), take_all).arrived, source));
    CHECK(tried_bytes(w) == 0);
    const sent s = send_afar(w, range(0, source.size()));
    REQUIRE(s.outcome.has_value());
    CHECK(same_bytes(s.arrived, source));
    CHECK(w.counter("sluice.send.zero_copy_given_up") == 1);
    CHECK(w.counter("sluice.send.zero_copy_copied_bytes") > 0);
    CHECK(tried_bytes(w) < source.size());
    const std::uint64_t tried = tried_bytes(w);
    // Below the threshold, and when told never, nothing is tried.
    CHECK(same_bytes(send_afar(w, range(0, block)).arrived, part_of(source, 0, block)));
    REQUIRE(w.engine().set_knob("sluice.send.zero_copy", "never").has_value());
    CHECK(same_bytes(send_afar(w, range(0, source.size())).arrived, source));
    CHECK(tried_bytes(w) == tried);
  }
}

TEST_CASE("a peer that takes nothing is reset in time, and every block comes back") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}, {"sluice.send.timeout_ms", "300"}});
    const std::vector<std::byte> source = pattern(34, 0, 60 * block);
    make_file(w.at("source"), source);
    // More than the socket's buffer takes, and so much that all of it is handed over at once.
    for (const std::uint64_t length : {std::uint64_t{source.size()}, 4 * block}) {
      CAPTURE(length);
      stream_pair ends = stream_pair::tcp();
      const int least = 4096;  // not autotuned: what is not taken stays with the sender
      ::setsockopt(ends.theirs(), SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
      const silent_taker taker(ends);
      const std::uint64_t resets = w.counter("sluice.send.zero_copy_resets");
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", range(0, length)));
      REQUIRE(!outcome.has_value());
      CHECK((outcome.error().code == ETIMEDOUT || outcome.error().code == code::too_slow));
      CHECK(w.counter("sluice.send.zero_copy_resets") == resets + 1);
      w.settle();
      take_all(taker.fd());
      CHECK(errno == ECONNRESET);
    }
  }
}

TEST_CASE("a send without a copy that is cancelled after any number of turns ends once") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}, {"sluice.send.zero_copy_depth", "3"}});
    const std::vector<std::byte> source = pattern(35, 0, 40 * block);
    make_file(w.at("source"), source);
    int cancelled = 0;
    for (int turns = 0; turns < 60; turns += turns < 24 ? 1 : 5) {
      CAPTURE(turns);
      stream_pair ends = stream_pair::tcp();
      // Every other peer takes nothing.
      std::unique_ptr<silent_taker> silent;
      std::unique_ptr<peer> taker;
      if (turns % 2 == 0) {
        silent = std::make_unique<silent_taker>(ends);
      } else {
        taker = std::make_unique<peer>(ends.take_theirs(), [](int fd) { take_slowly(fd); });
      }
      int told = 0;
      const sluice::task_handle handle =
          w.engine().start(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                      w.folder().path(), "source", range(0, source.size())),
                           [&](const sluice::result<sluice::receipt>& r) {
                             ++told;
                             if (!r) CHECK(r.error().code == ECANCELED);
                             if (!r) ++cancelled;
                           });
      for (int i = 0; i < turns && told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.until([&told] { return told > 0; }, 10s);
      w.settle();
      CHECK(told == 1);
      if (taker) taker->join(w);
    }
    CHECK(cancelled > 20);
  }
}

TEST_CASE("an engine that ends while peers hold its blocks gets them all back") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    for (const int turns : {2, 8, 40}) {
      CAPTURE(turns);
      std::vector<std::unique_ptr<silent_taker>> takers;
      world w(on, {{"sluice.send.zero_copy", "always"}});
      make_file(w.at("source"), pattern(36, 0, 30 * block));
      int told = 0;
      for (int i = 0; i < 3; ++i) {
        stream_pair ends = stream_pair::tcp();
        takers.push_back(std::make_unique<silent_taker>(ends));
        w.engine().start(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                    w.folder().path(), "source", range(0, 30 * block)),
                         [&told](const sluice::result<sluice::receipt>&) { ++told; });
      }
      for (int i = 0; i < turns; ++i) w.engine().run_once(1ms);
      w.end_engine();
      CHECK(told == 3);
      takers.clear();
      w.count_again();
    }
  }
}

TEST_CASE("a peer that goes or resets in the middle ends the send, and every block comes back") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}});
    make_file(w.at("source"), pattern(37, 0, 40 * block));
    for (const bool reset : {false, true}) {
      const sent s = send_range(w, range(0, 40 * block), [reset](int fd) {
        std::vector<std::byte> taken(3 * block / 2);
        support::recv_all(fd, taken);
        if (reset) support::reset_at_close(fd);
        return taken;
      });
      REQUIRE(!s.outcome.has_value());
      CHECK((s.outcome.error().code == ECONNRESET || s.outcome.error().code == EPIPE));
    }
  }
}

TEST_CASE(
    "a file that shrinks while it is sent without a copy ends the send behind its last byte") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}});
    const std::vector<std::byte> source = pattern(38, 0, 3 * block);
    make_file(w.at("source"), source);
    const sent s = send_range(w, range(0, 8 * block), take_all);
    REQUIRE(!s.outcome.has_value());
    CHECK(s.outcome.error().code == code::end_of_stream);
    CHECK(s.arrived.size() <= source.size());
    CHECK(same_bytes(s.arrived, part_of(source, 0, s.arrived.size())));
  }
}

TEST_CASE("where nothing can leave without a copy, auto sends plainly and always is refused") {
  std::vector<setting> lacking = every_setting();
  std::erase_if(lacking, [](const setting& s) { return s.backend != "pool"; });
  for (setting s : ring_settings()) {
    for (const char* hidden : {"ring.op.send_zc", "registered_buffers"}) {
      s.hidden = hidden;
      lacking.push_back(s);
    }
  }
  for (const setting& on : lacking) {
    CAPTURE(on.name);
    CAPTURE(on.hidden);
    world w(on);
    const std::vector<std::byte> source = pattern(39, 0, 8 * block);
    make_file(w.at("source"), source);
    const sent plain = send_range(w, range(0, source.size()), take_all);
    CHECK(plain.outcome.has_value());
    CHECK(same_bytes(plain.arrived, source));
    CHECK(tried_bytes(w) == 0);
    REQUIRE(w.engine().set_knob("sluice.send.zero_copy", "always").has_value());
    const sent refused = send_range(w, range(0, source.size()), take_all);
    REQUIRE(!refused.outcome.has_value());
    CHECK(refused.outcome.error().code == code::path_unavailable);
    CHECK(std::string_view(refused.outcome.error().where) ==
          "sends without a copy need a ring and registered memory");
    CHECK(refused.arrived.empty());
  }
}

TEST_CASE("a socket that knows no sends without a copy: auto sends plainly, always is refused") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on);
    const std::vector<std::byte> source = pattern(40, 0, 8 * block);
    make_file(w.at("source"), source);
    for (const bool always : {false, true}) {
      CAPTURE(always);
      if (always) REQUIRE(w.engine().set_knob("sluice.send.zero_copy", "always").has_value());
      stream_pair ends = stream_pair::local();
      std::vector<std::byte> arrived;
      peer taker(ends.take_theirs(), [&arrived](int fd) { arrived = take_all(fd); });
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", range(0, source.size())));
      taker.join(w);
      w.settle();
      CHECK(outcome.has_value() == !always);
      if (always) {
        CHECK(outcome.error().code == code::path_unavailable);
        CHECK(std::string_view(outcome.error().where) ==
              "this socket or kernel knows no sends without a copy");
      }
      CHECK(same_bytes(arrived, always ? std::vector<std::byte>() : source));
      CHECK(tried_bytes(w) == 0);
    }
    CHECK(w.counter("sluice.send.zero_copy_given_up") == 2);
  }
}

TEST_CASE("a peer that takes less in an interval than makes the socket writable is not silent") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.timeout_ms", "900"}, {"sluice.send.zero_copy", "always"}});
    const std::vector<std::byte> source = pattern(41, 0, 100'000);
    make_file(w.at("source"), source);
    stream_pair ends = stream_pair::tcp();
    constexpr int send_buffer = 256 * 1024;
    constexpr int receive_buffer = 16 * 1024;
    ::setsockopt(ends.ours(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    ::setsockopt(ends.theirs(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    // Full from what was sent before.
    std::size_t before = 0;
    for (int idle = 0; idle < 8; ++idle) {
      const ssize_t put =
          ::send(ends.ours(), source.data(), source.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put > 0) before += static_cast<std::size_t>(put);
      if (put > 0) idle = 0;
      std::this_thread::sleep_for(10ms);
    }
    std::vector<std::byte> arrived;
    peer taker(ends.take_theirs(), [&arrived](int fd) {
      std::vector<std::byte> piece(4096);
      while (const std::size_t got = support::recv_all(fd, piece)) {
        arrived.insert(arrived.end(), piece.begin(),
                       piece.begin() + static_cast<std::ptrdiff_t>(got));
        std::this_thread::sleep_for(30ms);
      }
    });
    const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                          w.folder().path(), "source", range(0, source.size())));
    taker.join(w);
    w.settle();
    CHECK((outcome ? 0 : outcome.error().code) == 0);
    REQUIRE(arrived.size() == before + source.size());
    CHECK(same_bytes(std::span(arrived).subspan(before), source));
  }
}

TEST_CASE("a peer that acknowledges less than the least rate is too slow, all handed over or not") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"},
                 {"sluice.send.timeout_ms", "900"},
                 {"sluice.send.rate_min_bytes", "8M"}});
    const std::vector<std::byte> source = pattern(42, 0, 60 * block);
    make_file(w.at("source"), source);
    for (const std::uint64_t length : {std::uint64_t{source.size()}, 4 * block}) {
      CAPTURE(length);
      stream_pair ends = stream_pair::tcp();
      const int little = 16 * 1024;
      ::setsockopt(ends.theirs(), SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
      std::size_t arrived = 0;
      peer taker(ends.take_theirs(), [&arrived](int fd) {
        std::vector<std::byte> piece(4096);
        while (const std::size_t got = support::recv_all(fd, piece)) {
          arrived += got;
          std::this_thread::sleep_for(30ms);
        }
      });
      const auto outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()),
                                            w.folder().path(), "source", range(0, length)));
      taker.join(w);
      CHECK((outcome ? 0 : outcome.error().code) == code::too_slow);
      CHECK(arrived < length);
      w.settle();
    }
  }
}

TEST_CASE("always: a block that is not registered is refused, and not sent with a copy") {
  for (const setting& on : ring_settings()) {
    CAPTURE(on.name);
    world w(on, {{"sluice.send.zero_copy", "always"}});
    const std::vector<std::byte> source = pattern(42, 0, 2 * block);
    make_file(w.at("source"), source);
    w.engine().core().blocks().use(nullptr);
    sluice::send_options options = range(0, source.size());
    options.head = std::span(source).first(100);
    const sent s = send_range(w, options, take_all);
    REQUIRE(!s.outcome.has_value());
    CHECK(s.outcome.error().code == code::path_unavailable);
    CHECK(std::string_view(s.outcome.error().where) == "the block to be sent is not registered");
    CHECK(s.arrived.empty());
    REQUIRE(w.engine().set_knob("sluice.send.zero_copy", "auto").has_value());
    const sent plain = send_range(w, options, take_all);
    CHECK(plain.outcome.has_value());
    CHECK(plain.arrived.size() == source.size() + 100);
  }
}
