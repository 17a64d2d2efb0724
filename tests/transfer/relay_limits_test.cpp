// Stream to stream: how long it waits, for what, and what it refuses.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <optional>

#include "transfer/relay_ways.hpp"

namespace {

using namespace relay_ways;
namespace code = sluice::code;

sluice::task<int> relay_both(sluice::stream& first, sluice::stream& second) {
  const sluice::result<sluice::relay_receipts> r = co_await sluice::relay(first, second);
  co_return r ? 0 : r.error().code;
}

// While it lives this process gets no descriptor more than it has.
class no_descriptors {
 public:
  no_descriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    REQUIRE(lowest >= 0);
    ::close(lowest);
    const rlimit none{static_cast<rlim_t>(lowest), before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  no_descriptors(const no_descriptors&) = delete;
  no_descriptors& operator=(const no_descriptors&) = delete;
  ~no_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("silence both ways is a time-out, and what moves one way keeps the other alive") {
  for_each({{"sluice.relay.timeout_ms", "100"}}, [](world& w, const way&) {
    joint silent;
    std::vector<std::byte> none;
    const relayed r = w.run(silent.task(w));
    CHECK(r.failure() == ETIMEDOUT);

    const std::vector<std::byte> sent = pattern(12, 0, 30);
    joint trickling;
    std::vector<std::byte> got;
    peer left(trickling.left.take_theirs(), [&](int fd) {
      for (const std::byte& one : sent) {
        send_all(fd, std::span(&one, 1));
        std::this_thread::sleep_for(20ms);
      }
      ::shutdown(fd, SHUT_WR);
      take_all(fd);
    });
    peer right(trickling.right.take_theirs(), [&](int fd) { got = take_all(fd); });
    const relayed kept = w.run(trickling.task(w));
    left.join(w);
    right.join(w);
    CHECK(kept.failure() == 0);
    CHECK(same_bytes(got, sent));
  });
}

TEST_CASE("a peer that takes nothing loses to those who wait for what holds its bytes") {
  for_each({{"sluice.splice.pipes_max", "1"}, {"sluice.relay.timeout_ms", "200"}}, [](world& w,
                                                                                      const way&) {
    const std::vector<std::byte> sent = pattern(13, 0, 64 << 20);
    // One block is left, one pipe, and the first relay stops with it.
    std::vector<sluice::lease> taken;
    while (w.engine().core().blocks().free_blocks() > 1) {
      taken.push_back(w.engine().core().blocks().try_take());
    }
    joint stuck;
    std::atomic<bool> stop{false};
    std::atomic<bool> full{false};
    peer left(stuck.left.take_theirs(), [&](int fd) {
      stuffed(fd, sent, stop);
      full = true;
      take_all(fd);
    });
    peer right(stuck.right.take_theirs(), [&](int fd) {
      const std::byte one{};
      while (!stop && send_all(fd, std::span(&one, 1))) std::this_thread::sleep_for(20ms);
    });
    relayed last;
    stuck.start(w, last);
    w.until([&] { return full.load() || last.told > 0; });
    joint waiting;
    const std::vector<std::byte> wanted = pattern(14, 0, 5000);
    std::vector<std::byte> got;
    std::vector<std::byte> none;
    peer other_left(waiting.left.take_theirs(), [&](int fd) { send_then_take(fd, wanted, none); });
    peer other_right(waiting.right.take_theirs(), [&](int fd) { got = take_all(fd); });
    const relayed served = w.run(waiting.task(w));
    w.until([&last] { return last.told > 0; });
    stop = true;
    left.join(w);
    right.join(w);
    other_left.join(w);
    other_right.join(w);
    CHECK(served.failure() == 0);
    CHECK(same_bytes(got, wanted));
    CHECK(last.failure() == code::too_slow);
  });
}

TEST_CASE("a relay that gets no pipe, or no block, ends in twice the time, and blames no peer") {
  for_each({{"sluice.splice.pipes_max", "1"}, {"sluice.relay.timeout_ms", "200"}}, [](world& w,
                                                                                      const way&) {
    std::vector<sluice::lease> blocks;
    while (sluice::lease one = w.engine().core().blocks().try_take()) {
      blocks.push_back(std::move(one));
    }
    sluice::pipe_lease pipe = std::move(**w.engine().core().pipes().try_take());
    const std::vector<std::byte> sent = pattern(19, 0, 20'000);
    joint waiting;
    std::vector<std::byte> none;
    peer left(waiting.left.take_theirs(), [&](int fd) { send_then_take(fd, sent, none); });
    peer right(waiting.right.take_theirs(), stay_silent);
    const auto begun = std::chrono::steady_clock::now();
    const relayed r = w.run(waiting.task(w));
    CHECK(r.failure() == ENOBUFS);
    CHECK(std::chrono::steady_clock::now() - begun >= 390ms);
    left.join(w);
    right.join(w);

    // What comes back between the first and the second time is in time.
    joint late;
    std::vector<std::byte> got;
    peer late_left(late.left.take_theirs(), [&](int fd) { send_then_take(fd, sent, none); });
    peer late_right(late.right.take_theirs(), [&](int fd) { got = take_all(fd); });
    relayed served;
    late.start(w, served);
    const auto back = std::chrono::steady_clock::now() + 250ms;
    while (std::chrono::steady_clock::now() < back) w.engine().run_once(1ms);
    blocks.clear();
    pipe.reset();
    w.until([&served] { return served.told > 0; });
    late_left.join(w);
    late_right.join(w);
    CHECK(served.failure() == 0);
    CHECK(same_bytes(got, sent));
  });
}

TEST_CASE("what moves less than the minimum rate is too slow, both directions counted together") {
  for_each({{"sluice.relay.timeout_ms", "200"}}, [](world& w, const way&) {
    // 1000 bytes every 10 ms at the most, one way.
    const std::vector<std::byte> sent = pattern(20, 0, 40'000);
    for (const bool is_enough : {false, true}) {
      CAPTURE(is_enough);
      joint ends;
      std::vector<std::byte> got;
      peer left(ends.left.take_theirs(), [&](int fd) {
        for (std::size_t at = 0; at < sent.size(); at += 1000) {
          if (!send_all(fd, std::span(sent).subspan(at, 1000))) return;
          std::this_thread::sleep_for(10ms);
        }
        ::shutdown(fd, SHUT_WR);
        take_all(fd);
      });
      peer right(ends.right.take_theirs(), [&](int fd) { got = take_all(fd); });
      sluice::relay_options options;
      options.rate_min_bytes = is_enough ? 2000 : 1'000'000;
      const relayed r = w.run(ends.task(w, options));
      left.join(w);
      right.join(w);
      CHECK(r.failure() == (is_enough ? 0 : int{code::too_slow}));
      CHECK(same_bytes(got, std::span(sent).first(got.size())));
      CHECK((got.size() == sent.size()) == is_enough);
    }
  });
}

TEST_CASE("a relay of which one peer trickles and the other is fast is above the minimum rate") {
  for_each({{"sluice.relay.timeout_ms", "100"}}, [](world& w, const way&) {
    const std::vector<std::byte> answer = pattern(21, 0, 60'000);
    joint ends;
    std::atomic<bool> over{false};
    std::vector<std::byte> got;
    peer left(ends.left.take_theirs(), [&](int fd) {
      std::thread taking([&, fd] { got = take_all(fd); });
      const std::byte one{};
      while (!over && send_all(fd, std::span(&one, 1))) std::this_thread::sleep_for(20ms);
      ::shutdown(fd, SHUT_WR);
      taking.join();
    });
    peer right(ends.right.take_theirs(), [&](int fd) {
      for (std::size_t at = 0; at < answer.size(); at += 2000) {
        if (!send_all(fd, std::span(answer).subspan(at, 2000))) break;
        std::this_thread::sleep_for(10ms);
      }
      over = true;
      ::shutdown(fd, SHUT_WR);
      take_all(fd);
    });
    sluice::relay_options options;
    options.rate_min_bytes = 5000;
    const relayed r = w.run(ends.task(w, options));
    left.join(w);
    right.join(w);
    CHECK(r.failure() == 0);
    CHECK(same_bytes(got, answer));
  });
}

TEST_CASE("path auto copies while every pipe is taken, and says so") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w({backend, backend, std::filesystem::current_path().string(), false, ""},
            {{"sluice.splice.pipes_max", "1"}});
    const std::vector<std::byte> sent = pattern(15, 0, 64 << 20);
    joint stuck;
    std::atomic<bool> stop{false};
    std::atomic<bool> full{false};
    peer left(stuck.left.take_theirs(), [&](int fd) {
      stuffed(fd, sent, stop);
      full = true;
      take_all(fd);
    });
    relayed last;
    const sluice::task_handle handle = stuck.start(w, last);
    w.until([&] { return full.load(); });
    CHECK(w.engine().core().pipes().taken() == 1);
    const std::vector<std::byte> other = pattern(16, 0, 300'000);
    const relayed r = exchange(w, {}, other, other, send_then_take, send_then_take);
    REQUIRE(r.failure() == 0);
    CHECK(std::string(r.outcome->to_second.reason) ==
          "auto: spliced, but copied while every pipe was taken");
    CHECK(r.outcome->to_second.misrouted_bytes == other.size());
    CHECK(w.counter("sluice.relay.copied_bytes") == 2 * other.size());
    w.engine().cancel(handle);
    w.until([&last] { return last.told > 0; });
    CHECK(last.failure() == ECANCELED);
    CHECK(w.counter("sluice.splice.pipes_dropped") == 1);
    left.join(w);
    const relayed again = exchange(w, {}, other, other, send_then_take, send_then_take);
    REQUIRE(again.failure() == 0);
    CHECK(w.counter("sluice.relay.spliced_bytes") > 0);
  }
}

TEST_CASE("path auto copies while no pipe can be made, and says that and not that all are taken") {
  const std::vector<std::byte> sent = pattern(18, 0, 100'000);
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    for (const bool one_is_taken : {false, true}) {
      CAPTURE(one_is_taken);
      world w({backend, backend, std::filesystem::current_path().string(), false, ""});
      REQUIRE(w.engine().core().pipes().pipes_max() > 1);
      std::optional<sluice::result<sluice::pipe_lease>> taken;
      if (one_is_taken) taken = w.engine().core().pipes().try_take();
      joint ends;
      relayed r;
      {
        const no_descriptors full;
        r = exchange(w, std::move(ends), sent, sent, send_then_take, send_then_take);
      }
      taken.reset();
      REQUIRE(r.failure() == 0);
      const std::string reason = r.outcome->to_second.reason;
      CHECK(reason.find("EMFILE") != std::string::npos);
      CHECK(r.outcome->to_second.misrouted_bytes > 0);
      CHECK(w.counter("sluice.relay.copied_bytes") > 0);
    }
  }
}

TEST_CASE("where splice is not allowed path auto copies, and a forced splice is refused") {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    world w({backend, backend, std::filesystem::current_path().string(), false, "splice"});
    const std::vector<std::byte> sent = pattern(17, 0, 10'000);
    const relayed r = exchange(w, {}, sent, sent, send_then_take, send_then_take);
    REQUIRE(r.failure() == 0);
    CHECK(std::string(name(r.outcome->to_first.path)) == "copy");
    CHECK(std::string(r.outcome->to_first.reason).find("not allowed") != std::string::npos);
    REQUIRE(w.engine().set_knob("sluice.relay.path", "splice").has_value());
    joint ends;
    const relayed refused = w.run(ends.task(w));
    CHECK(refused.failure() == code::path_unavailable);
    CHECK(std::string(refused.outcome.error().where).find("not allowed") != std::string::npos);
    CHECK(w.counter("sluice.relay.failures") == 1);
  }
}

TEST_CASE("a stream to itself, a closed one and one that is shut down are refused or an error") {
  for_each({}, [](world& w, const way&) {
    joint ends;
    sluice::stream first = adopt(w.engine(), ends.left.take_ours());
    sluice::stream second = adopt(w.engine(), ends.right.take_ours());
    CHECK(w.run(relay_both(first, first)) == EINVAL);
    sluice::stream closed;
    CHECK(w.run(relay_both(first, closed)) == EBADF);
    CHECK(w.run(relay_both(closed, first)) == EBADF);
    REQUIRE(second.shutdown(SHUT_WR).has_value());
    const std::byte one{};
    REQUIRE(send_all(ends.left.theirs(), std::span(&one, 1)));
    CHECK(w.run(relay_both(first, second)) == EPIPE);
  });
}

TEST_CASE("a sink that takes less in an interval than makes its socket writable is not silent") {
  for_each({{"sluice.relay.timeout_ms", "500"}}, [](world& w, const way&) {
    const std::vector<std::byte> sent = pattern(40, 0, 720'000);
    joint ends;
    constexpr int send_buffer = 256 * 1024;
    constexpr int receive_buffer = 16 * 1024;
    ::setsockopt(ends.right.ours(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    ::setsockopt(ends.right.theirs(), SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                 sizeof receive_buffer);
    std::vector<std::byte> none;
    std::vector<std::byte> got;
    std::atomic<bool> over{false};
    peer left(ends.left.take_theirs(), [&](int fd) { send_then_take(fd, sent, none); });
    peer right(ends.right.take_theirs(), [&](int fd) {
      std::vector<std::byte> piece(4096);
      while (got.size() < sent.size()) {
        const std::size_t more = support::recv_all(fd, piece);
        if (more == 0) return;
        got.insert(got.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(more));
        if (!over) std::this_thread::sleep_for(15ms);
      }
    });
    relayed r;
    ends.start(w, r);
    w.until([&] {
      const std::uint64_t moved =
          w.counter("sluice.relay.spliced_bytes") + w.counter("sluice.relay.copied_bytes");
      return r.told > 0 || moved == sent.size();
    });
    over = true;
    w.until([&r] { return r.told > 0; });
    left.join(w);
    right.join(w);
    CHECK(r.progress.to_second.bytes == sent.size());
    CHECK(same_bytes(got, std::span(sent).first(got.size())));
  });
}

TEST_CASE(
    "an upload that waits for what a relay holds is served, however long that may be silent") {
  for (const char* relay_ms : {"0", "600000"}) {
    CAPTURE(relay_ms);
    for_each({{"sluice.splice.pipes_max", "1"},
              {"sluice.relay.timeout_ms", relay_ms},
              {"sluice.receive.timeout_ms", "300"}},
             [](world& w, const way& by) {
               REQUIRE(w.engine()
                           .set_knob("sluice.receive.path", by.splices() ? "splice" : "copy")
                           .has_value());
               const std::vector<std::byte> sent = pattern(41, 0, 64 << 20);
               // One block is left, one pipe, and the relay stops with it.
               std::vector<sluice::lease> taken;
               while (w.engine().core().blocks().free_blocks() > 1) {
                 taken.push_back(w.engine().core().blocks().try_take());
               }
               joint stuck;
               std::atomic<bool> stop{false};
               std::atomic<bool> full{false};
               peer left(stuck.left.take_theirs(), [&](int fd) {
                 stuffed(fd, sent, stop);
                 full = true;
                 take_all(fd);
               });
               peer right(stuck.right.take_theirs(), [&](int) {
                 while (!stop) std::this_thread::sleep_for(5ms);
               });
               relayed last;
               stuck.start(w, last);
               w.until([&] { return full.load() || last.told > 0; });
               CHECK(last.told == 0);
               const std::vector<std::byte> body = pattern(42, 0, 50'000);
               stream_pair ends = stream_pair::tcp();
               peer sender(ends.take_theirs(), [&body](int fd) { send_all(fd, body); });
               upload_request request{w.folder().path(), "body", of_length(body.size())};
               const uploaded u =
                   w.run(receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), request));
               w.until([&last] { return last.told > 0; }, 5s);
               stop = true;
               left.join(w);
               right.join(w);
               sender.join(w);
               CHECK((u.outcome ? 0 : u.outcome.error().code) == 0);
               CHECK(last.failure() == code::too_slow);
             });
  }
}
