// Stream to stream: what gets through, in which order the ends come, and what is held meanwhile.
#include <memory>

#include "transfer/relay_ways.hpp"

namespace {

using namespace relay_ways;
namespace code = sluice::code;

void drop_all(int fd) {
  std::vector<std::byte> piece(1 << 20);
  while (::recv(fd, piece.data(), piece.size(), 0) > 0) {
  }
}

}  // namespace

TEST_CASE("every length around three pages gets through both ways, whoever ends first") {
  for_each({}, [](world& w, const way& by) {
    for (const std::uint64_t length : splice_ways::small_lengths()) {
      CAPTURE(length);
      const std::vector<std::byte> there = pattern(length, 0, length);
      const std::vector<std::byte> back = pattern(length + 1, 0, 12'289 - length);
      for (const bool second_waits : {false, true}) {
        CAPTURE(second_waits);
        const relayed r = exchange(w, {}, there, back, send_then_take,
                                   second_waits ? take_then_send : send_then_take);
        REQUIRE(r.failure() == 0);
        CHECK(r.outcome->to_second.bytes == there.size());
        CHECK(r.outcome->to_first.bytes == back.size());
        for (const sluice::receipt* one : {&r.outcome->to_second, &r.outcome->to_first}) {
          CHECK(std::string(name(one->path)) == by.path);
          CHECK(std::string(one->reason) == "forced by sluice.relay.path=" + by.path);
          CHECK(one->copies == (by.splices() ? 0 : 2));
          CHECK((one->bytes == 0) == (one->first_byte.count() == 0));
          CHECK(one->last_byte >= one->first_byte);
        }
      }
    }
    const bool spliced = w.counter("sluice.relay.spliced_bytes") > 0;
    const bool copied = w.counter("sluice.relay.copied_bytes") > 0;
    CHECK(spliced == by.splices());
    CHECK(copied != by.splices());
    CHECK(w.counter("sluice.relay.failures") == 0);
  });
}

TEST_CASE("the second stream may be the one that ends first") {
  for_each({}, [](world& w, const way&) {
    const std::vector<std::byte> there = pattern(1, 0, 70'001);
    const std::vector<std::byte> back = pattern(2, 0, 50'003);
    const relayed r = exchange(w, {}, there, back, take_then_send, send_then_take);
    REQUIRE(r.failure() == 0);
    CHECK(r.outcome->to_first.last_byte < r.outcome->to_second.last_byte);
  });
}

TEST_CASE(
    "megabytes pass both ways at once through pipes or blocks of a page, by TCP and AF_UNIX") {
  for_each({{"sluice.splice.pipe_bytes", "4K"},
            {"sluice.memory.block_bytes", "4K"},
            {"sluice.memory.head_bytes", "4K"}},
           [](world& w, const way&) {
             const std::vector<std::byte> there = pattern(3, 0, 1'500'013);
             const std::vector<std::byte> back = pattern(4, 0, 1'000'003);
             for (const bool local : {false, true}) {
               CAPTURE(local);
               const relayed r =
                   exchange(w, local ? joint{stream_pair::local(), stream_pair::tcp()} : joint{},
                            there, back, send_then_take, send_then_take);
               CHECK(r.failure() == 0);
             }
             CHECK(w.counter("sluice.splice.pipes") <= 2);
             CHECK(w.counter("sluice.splice.pipes_dropped") == 0);
           });
}

TEST_CASE("what came before the relay goes first, in both directions") {
  for_each({}, [](world& w, const way& by) {
    const std::vector<std::byte> there = pattern(5, 0, 30'000);
    const std::vector<std::byte> back = pattern(6, 0, 20'000);
    joint ends;
    std::vector<std::byte> at_first;
    std::vector<std::byte> at_second;
    peer left(ends.left.take_theirs(),
              [&](int fd) { send_then_take(fd, std::span(there).subspan(9000), at_first); });
    peer right(ends.right.take_theirs(),
               [&](int fd) { send_then_take(fd, std::span(back).subspan(7000), at_second); });
    const relayed r =
        w.run(ends.task(w, {std::span(there).first(9000), std::span(back).first(7000)}));
    left.join(w);
    right.join(w);
    REQUIRE(r.failure() == 0);
    CHECK(same_bytes(at_second, there));
    CHECK(same_bytes(at_first, back));
    CHECK(r.outcome->to_second.bytes == there.size());
    CHECK(r.outcome->to_second.misrouted_bytes == (by.splices() ? 9000 : 0));
    CHECK(r.outcome->to_first.misrouted_bytes == (by.splices() ? 7000 : 0));
  });
}

TEST_CASE("a reset of either peer ends both directions, and the counts are those of the sockets") {
  for_each({}, [](world& w, const way&) {
    const std::vector<std::byte> sent = pattern(7, 0, 4'000'001);
    for (const bool by_source : {false, true}) {
      for (const std::uint64_t cut : {1U, 4097U, 1'000'000U}) {
        CAPTURE(by_source);
        CAPTURE(cut);
        joint ends;
        std::uint64_t taken = 0;
        peer left(ends.left.take_theirs(), [&](int fd) {
          send_all(fd, std::span(sent).first(by_source ? cut : sent.size()));
          if (!by_source) return;
          std::this_thread::sleep_for(20ms);  // a reset takes away what was not received yet
          support::reset_at_close(fd);
        });
        peer right(ends.right.take_theirs(), [&](int fd) {
          if (by_source) {
            taken = take_all(fd).size();
          } else {
            std::vector<std::byte> some(cut);
            taken = support::recv_all(fd, some);
            support::reset_at_close(fd);
          }
        });
        const relayed r = w.run(ends.task(w));
        left.join(w);
        right.join(w);
        CHECK((r.failure() == ECONNRESET || r.failure() == EPIPE));
        CHECK(r.progress.to_first.bytes == 0);
        CHECK(r.progress.to_second.bytes >= taken);
        if (by_source) CHECK(r.progress.to_second.bytes == taken);
      }
    }
  });
}

TEST_CASE("a peer that resets after the other direction has ended is told from one that closes") {
  for_each({}, [](world& w, const way&) {
    for (const bool reset : {false, true}) {
      CAPTURE(reset);
      joint ends;
      std::vector<std::byte> none;
      peer left(ends.left.take_theirs(), [&](int fd) { send_then_take(fd, {}, none); });
      peer right(ends.right.take_theirs(), [&](int fd) {
        take_all(fd);
        std::this_thread::sleep_for(10ms);
        if (reset) support::reset_at_close(fd);
      });
      const relayed r = w.run(ends.task(w));
      left.join(w);
      right.join(w);
      CHECK(r.failure() == (reset ? ECONNRESET : 0));
    }
  });
}

// The kernel tells it once: to whoever looks at how the source has ended, and not to the next.
TEST_CASE("a reset is told also while another relay waits for the only pipe") {
  for_each({{"sluice.splice.pipes_max", "1"}}, [](world& w, const way&) {
    joint through;
    relayed busy;
    const std::vector<std::byte> much(64 << 10);
    peer giver(through.left.take_theirs(), [&](int fd) {
      while (send_all(fd, much)) {
      }
    });
    peer taker(through.right.take_theirs(), drop_all);
    const sluice::task_handle hose = through.start(w, busy);
    for (int i = 0; i < 20; ++i) {
      CAPTURE(i);
      joint ends;
      peer left(ends.left.take_theirs(), [&](int fd) {
        take_all(fd);
        send_all(fd, std::span(much).first(50'000));
        std::this_thread::sleep_for(std::chrono::microseconds(40 * i));
        support::reset_at_close(fd);
      });
      peer right(ends.right.take_theirs(), [&](int fd) {
        ::shutdown(fd, SHUT_WR);
        take_all(fd);
      });
      const relayed r = w.run(ends.task(w));
      left.join(w);
      right.join(w);
      CHECK(r.failure() == ECONNRESET);
    }
    CHECK(busy.told == 0);
    w.engine().cancel(hose);
    w.until([&busy] { return busy.told == 1; });
    giver.join(w);
    taker.join(w);
  });
}

TEST_CASE("a peer that takes nothing holds its sender back, in a pipe or a block and no more") {
  for_each({{"sluice.relay.timeout_ms", "0"}}, [](world& w, const way& by) {
    const std::vector<std::byte> sent = pattern(8, 0, 64 << 20);
    joint ends;
    std::atomic<bool> stop{false};
    std::atomic<bool> full{false};
    std::uint64_t given = 0;
    std::vector<std::byte> got;
    peer left(ends.left.take_theirs(), [&](int fd) {
      given = stuffed(fd, sent, stop);
      full = true;
    });
    relayed last;
    ends.start(w, last);
    w.until([&] { return full.load(); });
    CHECK(given < sent.size());
    CHECK(w.engine().core().pipes().taken() == (by.splices() ? 1 : 0));
    CHECK(w.counter("sluice.memory.leases_in_use") == (by.splices() ? 0 : 1));
    CHECK(last.told == 0);
    // Then it takes everything.
    peer right(ends.right.take_theirs(), [&](int fd) { got = take_all(fd); });
    w.until([&] { return last.told > 0; });
    right.join(w);
    CHECK(last.failure() == 0);
    CHECK(last.outcome->to_second.bytes == given);
    CHECK(same_bytes(got, std::span(sent).first(given)));
  });
}

TEST_CASE("idle relays hold neither pipe nor block") {
  for_each({}, [](world& w, const way&) {
    constexpr std::size_t count = 40;  // more than there are blocks
    std::vector<joint> ends(count);
    std::vector<relayed> last(count);
    for (std::size_t i = 0; i < count; ++i) ends[i].start(w, last[i]);
    const std::byte one{7};
    for (joint& each : ends) REQUIRE(send_all(each.left.theirs(), std::span(&one, 1)));
    for (joint& each : ends) {
      std::byte got{};
      w.until([&] { return ::recv(each.right.theirs(), &got, 1, MSG_DONTWAIT) == 1; });
      CHECK(got == one);
    }
    w.until([&w] { return w.engine().core().pipes().taken() == 0; });
    w.until([&w] { return w.counter("sluice.memory.leases_in_use") == 0; });
    for (joint& each : ends) {
      each.left.close_theirs();
      each.right.close_theirs();
    }
    w.until([&w] { return w.engine().task_count() == 0; });
    for (const relayed& each : last) CHECK(each.failure() == 0);
  });
}

TEST_CASE("cancelled after any number of turns, no byte gets into the next relay") {
  for_each({{"sluice.splice.pipes_max", "2"}, {"sluice.splice.pipe_bytes", "64K"}}, [](world& w,
                                                                                       const way&) {
    const std::vector<std::byte> long_one = pattern(9, 0, 2'000'003);
    const std::vector<std::byte> short_one = pattern(10, 0, 100'001);
    int cancelled = 0;
    for (int turns = 0; turns < 24; ++turns) {
      CAPTURE(turns);
      joint ends;
      relayed last;
      std::vector<std::byte> at_first;
      std::vector<std::byte> at_second;
      peer left(ends.left.take_theirs(), [&](int fd) { send_then_take(fd, long_one, at_first); });
      peer right(ends.right.take_theirs(),
                 [&](int fd) { send_then_take(fd, long_one, at_second); });
      const sluice::task_handle handle = ends.start(w, last);
      for (int i = 0; i < turns && last.told == 0; ++i) w.engine().run_once(1ms);
      w.engine().cancel(handle);
      w.engine().cancel(handle);
      w.until([&last] { return last.told > 0; });
      left.join(w);
      right.join(w);
      CHECK(last.told == 1);
      if (last.failure() != 0) {
        CHECK(last.failure() == ECANCELED);
        ++cancelled;
      }
      CHECK(last.progress.to_second.bytes >= at_second.size());
      CHECK(same_bytes(at_second, std::span(long_one).first(at_second.size())));
      const relayed next = exchange(w, {}, short_one, short_one, send_then_take, send_then_take);
      CHECK(next.failure() == 0);
    }
    CHECK(cancelled > 0);
    CHECK(w.counter("sluice.splice.pipes") <= 2);
  });
}

TEST_CASE("an engine that ends in the middle of relays ends them") {
  for (const way& by : every_way()) {
    CAPTURE(by.on.name);
    CAPTURE(by.path);
    world w(by.on, {{"sluice.relay.path", by.path}, {"sluice.splice.via", by.via}});
    const std::vector<std::byte> sent = pattern(11, 0, 1'000'000);
    std::vector<std::unique_ptr<peer>> peers;
    std::vector<relayed> last(4);
    for (relayed& each : last) {
      joint ends;
      ends.start(w, each);
      peers.push_back(
          std::make_unique<peer>(ends.left.take_theirs(), [&](int fd) { send_all(fd, sent); }));
      peers.push_back(std::make_unique<peer>(ends.right.take_theirs(), stay_silent));
    }
    for (int i = 0; i < 5; ++i) w.engine().run_once(1ms);
    w.end_engine();
    for (const relayed& each : last) CHECK(each.told == 1);
    peers.clear();
    w.count_again();
  }
}

// A peer that sends a part, one urgent byte, and after a while the rest; then it is silent for a
// while before it says that this was all.
struct urgent_sender {
  std::span<const std::byte> part;
  std::span<const std::byte> rest;
  void operator()(int fd) const {
    send_all(fd, part);
    const std::byte urgent{'!'};
    ::send(fd, &urgent, 1, MSG_OOB | MSG_NOSIGNAL);
    std::this_thread::sleep_for(20ms);
    send_all(fd, rest);
    std::this_thread::sleep_for(50ms);
    ::shutdown(fd, SHUT_WR);
    take_all(fd);
  }
};

TEST_CASE(
    "urgent data is left out and what lies behind it is relayed, by a forced splice refused") {
  for_each({}, [](world& w, const way& by) {
    const std::vector<std::byte> body = pattern(30, 0, 100'000);
    for (const std::uint64_t cut : {0U, 3U, 70'000U}) {
      for (const bool automatic : {false, true}) {
        CAPTURE(cut);
        CAPTURE(automatic);
        if (automatic && !by.splices()) continue;
        REQUIRE(w.engine().set_knob("sluice.relay.path", automatic ? "auto" : by.path).has_value());
        joint ends;
        std::vector<std::byte> got;
        peer left(ends.left.take_theirs(),
                  urgent_sender{std::span(body).first(cut), std::span(body).subspan(cut)});
        peer right(ends.right.take_theirs(), [&](int fd) { got = take_all(fd); });
        const std::uint64_t turns = w.counter("sluice.ops.submitted");
        const relayed r = w.run(ends.task(w));
        left.join(w);
        right.join(w);
        CHECK(w.counter("sluice.ops.submitted") - turns < 1000);  // it does not spin
        if (by.splices() && !automatic) {
          CHECK(r.failure() == code::path_unavailable);
          CHECK(std::string(r.outcome.error().where).find("urgent") != std::string::npos);
          CHECK(r.progress.to_second.bytes == cut);
          continue;
        }
        REQUIRE(r.failure() == 0);
        CHECK(same_bytes(got, body));
        CHECK(r.outcome->to_second.bytes == body.size());
        if (!automatic) continue;
        CHECK(std::string(name(r.outcome->to_second.path)) == "copy");
        CHECK(std::string(r.outcome->to_second.reason).find("urgent") != std::string::npos);
        CHECK(r.outcome->to_second.misrouted_bytes == cut);
      }
    }
  });
}

TEST_CASE("the end of a peer is none of a reset because our own end was sent to it before") {
  for_each({}, [](world& w, const way&) {
    const std::vector<std::byte> body = pattern(31, 0, 50'000);
    joint ends;
    sluice::stream first = adopt(w.engine(), ends.left.take_ours());
    sluice::stream second = adopt(w.engine(), ends.right.take_ours());
    REQUIRE(first.shutdown(SHUT_WR).has_value());
    std::vector<std::byte> got;
    peer left(ends.left.take_theirs(), [&](int fd) {
      take_all(fd);
      send_all(fd, body);
    });
    peer right(ends.right.take_theirs(), [&](int fd) { got = take_all(fd); });
    const relayed r = w.run(relay_once(std::move(first), std::move(second)));
    left.join(w);
    right.join(w);
    CHECK(r.failure() == 0);
    CHECK(same_bytes(got, body));
  });
}
