#include "backend/loop.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "kernel/clock.hpp"
#include "kernel/uapi.hpp"
#include "support/dies.hpp"
#include "support/scripted_backend.hpp"
#include "support/seeded_data.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::request_of;
using support::scripted_backend;
using support::told_op;
using event_kind = scripted_backend::event_kind;

constexpr std::size_t all = std::numeric_limits<std::size_t>::max();

struct bench {
  scripted_backend backend;
  tuning::counters counters;
  sluice::loop loop{backend, counters};

  std::size_t turn(std::size_t budget = all) { return loop.turn(0, budget); }
};

std::array<std::byte, 100> memory;

// 100 bytes at offset 1000.
op_request writing() { return request_of(op_kind::write, 3, memory.data(), 100, 1000); }
op_request reading() { return request_of(op_kind::read, 3, memory.data(), 100, 1000); }
op_request receiving(std::uint32_t flags = 0) {
  return request_of(op_kind::recv, 3, memory.data(), 100, 0, flags);
}

// ---- the turn

TEST_CASE("a turn stages, waits, settles, fires timers, reads the mailbox and runs completions") {
  bench b;
  std::string order;
  told_op answered(writing());
  told_op timer(request_of(op_kind::timeout));
  told_op later(writing());
  b.backend.script({100});
  b.backend.during_wait = [&] {
    CHECK(b.backend.count_of(event_kind::start) == 1);  // staged before the wait
    order += "wait ";
  };
  answered.then = [&] {
    CHECK(timer.state() == op_state::harvested);  // the timer fired before completions run
    b.loop.start(later, nullptr);
    order += "ready ";
  };
  timer.then = [&] { order += "timer "; };
  timer.deadline_ns = 1;  // long past
  b.loop.start(answered, nullptr);
  b.loop.start(timer, nullptr);
  b.loop.post([&] {
    CHECK(answered.state() == op_state::harvested);  // settled
    CHECK(timer.state() == op_state::harvested);     // fired
    order += "mail ";
  });
  CHECK(b.turn() == 2);
  CHECK(order == "wait mail ready timer ");
  CHECK(later.state() == op_state::staged);  // what a completion begins waits for the next turn
  b.backend.during_wait = nullptr;
  b.backend.script({100});
  CHECK(b.turn() == 1);
}

TEST_CASE("an op goes idle, staged, in flight, harvested and back to idle") {
  bench b;
  told_op o(writing());
  CHECK(o.state() == op_state::idle);
  b.loop.start(o, nullptr);
  CHECK(o.state() == op_state::staged);
  CHECK(b.loop.ops_under_way() == 1);
  b.turn();
  CHECK(o.state() == op_state::in_flight);
  b.backend.answer(o, 100);
  b.turn(0);
  CHECK(o.state() == op_state::harvested);
  CHECK(o.times_told == 0);
  o.then = [&] { CHECK(o.state() == op_state::idle); };
  CHECK(b.turn() == 1);
  CHECK(o.times_told == 1);
  CHECK(o.told == 100);
  CHECK(b.loop.ops_under_way() == 0);
}

// ---- two answers

struct sent_op : told_op {
  sent_op() : told_op(request_of(op_kind::send_zc, 3, memory.data(), 100)) {
    sent = [](op& o) noexcept { ++static_cast<sent_op&>(o).times_sent; };
  }
  int times_sent = 0;
};

TEST_CASE("an op that answers twice is in flight until the second answer, and told once") {
  bench b;
  sent_op o;
  b.loop.start(o, nullptr);
  b.turn();
  b.backend.answer_early(o, 60);
  b.turn();
  CHECK(o.times_sent == 1);
  CHECK(o.times_told == 0);
  CHECK(o.state() == op_state::in_flight);
  CHECK(b.loop.ops_under_way() == 1);
  b.backend.answer(o, 60);  // a short one is for its owner to continue
  b.turn();
  CHECK(o.times_sent == 1);
  CHECK(o.times_told == 1);
  CHECK(o.told == 60);
  CHECK(b.loop.ops_under_way() == 0);
}

TEST_CASE("between its two answers no deadline ends an op, and a cancel changes nothing") {
  bench b;
  sent_op o;
  scope s;
  o.deadline_ns = kernel::now_ns() + 20'000'000;
  b.backend.when_cancelled = support::on_cancel::ignore;
  b.loop.start(o, &s);
  b.turn();
  b.backend.answer_early(o, 100);
  b.turn();
  CHECK(b.loop.next_deadline_ns() == 0);
  s.cancel(b.loop);
  CHECK(o.state() == op_state::cancelling);
  b.turn();
  CHECK(o.times_told == 0);
  b.backend.answer(o, 100);
  b.turn();
  CHECK(o.times_told == 1);
  CHECK(o.told == 100);
}

TEST_CASE("an op whose first answer is an interruption is tried again after the second") {
  bench b;
  sent_op o;
  b.loop.start(o, nullptr);
  b.turn();
  b.backend.answer_early(o, -EINTR);
  b.turn();
  CHECK(o.state() == op_state::in_flight);
  b.backend.answer(o, -EINTR);
  b.turn();
  CHECK(o.times_told == 0);
  b.turn();
  b.backend.answer(o, 100);
  b.turn();
  CHECK(o.times_told == 1);
  CHECK(o.told == 100);
  CHECK(b.backend.count_of(event_kind::start) == 2);
}

TEST_CASE("completions run only when every answer of the wait is harvested") {
  bench b;
  std::array<told_op, 5> ops;
  for (told_op& o : ops) {
    o.request = writing();
    o.then = [&] {
      for (const told_op& other : ops) CHECK(other.state() != op_state::in_flight);
    };
    b.loop.start(o, nullptr);
  }
  b.backend.script({100, 100, 100, 100, 100});
  CHECK(b.turn() == 5);
}

TEST_CASE("ops reach the backend in the order in which they were begun") {
  bench b;
  std::array<told_op, 4> ops;
  for (told_op& o : ops) {
    o.request = writing();
    b.loop.start(o, nullptr);
  }
  b.turn();
  REQUIRE(b.backend.held().size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(b.backend.held()[i] == &ops[i]);
  for (told_op& o : ops) b.backend.answer(o, 100);
  b.turn();
}

TEST_CASE("results go to their own ops when answers come in another order") {
  bench b;
  std::array<told_op, 3> ops;
  std::vector<const told_op*> told;
  b.backend.order = support::answer_order::last_first;
  b.backend.script({-EIO, -ENOSPC, 100});
  for (told_op& o : ops) {
    o.request = writing();
    o.then = [&told, &o] { told.push_back(&o); };
    b.loop.start(o, nullptr);
  }
  b.turn();
  CHECK(ops[0].told == -EIO);
  CHECK(ops[1].told == -ENOSPC);
  CHECK(ops[2].told == 100);
  CHECK(told == std::vector<const told_op*>{&ops[2], &ops[1], &ops[0]});
}

TEST_CASE("a budget bounds the completions of a turn and the rest keeps its order") {
  bench b;
  std::array<told_op, 5> ops;
  b.backend.script({100, 100, 100, 100, 100});
  for (told_op& o : ops) {
    o.request = writing();
    b.loop.start(o, nullptr);
  }
  CHECK(b.turn(2) == 2);
  CHECK(ops[1].times_told == 1);
  CHECK(ops[2].times_told == 0);
  CHECK(b.loop.has_work());
  CHECK(b.loop.turn(-1, 2) == 2);         // would wait for ever ...
  CHECK(b.backend.last_timeout_ns == 0);  // ... but for the work left over
  CHECK(b.turn(2) == 1);
  CHECK(b.turn(2) == 0);
  CHECK_FALSE(b.loop.has_work());
}

TEST_CASE("an op may be started again from its own completion") {
  bench b;
  told_op o(writing());
  o.then = [&] {
    if (o.times_told < 3) b.loop.start(o, nullptr);
  };
  b.backend.script({100, -EIO, 100});
  b.loop.start(o, nullptr);
  for (int i = 0; i < 3; ++i) CHECK(b.turn() == 1);
  CHECK(o.times_told == 3);
  CHECK(o.told == 100);
}

TEST_CASE("an op may end its own life in its completion") {
  bench b;
  auto* o = new told_op(writing());
  bool ended = false;
  o->then = [&ended, o] {
    ended = true;
    const std::function<void()> alive = std::move(o->then);  // this very function
    delete o;
  };
  b.backend.script({100});
  b.loop.start(*o, nullptr);
  b.turn();
  CHECK(ended);
}

TEST_CASE("refused room keeps the order, and answers make room") {
  bench b;
  std::array<told_op, 5> ops;
  b.backend.room = 2;
  for (told_op& o : ops) {
    o.request = writing();
    b.loop.start(o, nullptr);
  }
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&ops[0], &ops[1]});
  CHECK(ops[2].state() == op_state::staged);
  CHECK(b.backend.count_of(event_kind::refuse) == 3);  // each once
  CHECK_FALSE(b.loop.has_work());                      // until there is an answer
  b.turn();
  CHECK(b.backend.count_of(event_kind::refuse) == 4);  // then the oldest alone
  b.backend.answer(ops[1], 100);
  b.turn();
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&ops[0], &ops[2]});
  b.backend.room = all;
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&ops[0], &ops[2], &ops[3], &ops[4]});
  for (told_op& o : ops) {
    if (b.backend.holds(o)) b.backend.answer(o, 100);
  }
  b.turn();
  for (const told_op& o : ops) CHECK(o.times_told == 1);
}

TEST_CASE("what needs no room goes on while others wait for room") {
  bench b;
  told_op refused(receiving());
  told_op work(request_of(op_kind::call));
  b.backend.refuses = [](const op& o) { return o.request.kind == op_kind::recv; };
  b.loop.start(refused, nullptr);
  b.loop.start(work, nullptr);
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&work});
  CHECK(refused.state() == op_state::staged);
  b.loop.cancel(refused, ECANCELED);
  b.backend.answer(work, 0);
  b.turn();
  CHECK(refused.told == -ECANCELED);
}

TEST_CASE("polls without room keep nobody else back, and go on once they have it") {
  bench b;
  std::array<told_op, 3> polls;
  told_op other(receiving());
  bool full = true;
  b.backend.refuses = [&full](const op& o) { return full && o.request.kind == op_kind::poll; };
  for (told_op& o : polls) {
    o.request = request_of(op_kind::poll, 3);
    b.loop.start(o, nullptr);
  }
  b.turn();
  CHECK(b.backend.held().empty());
  b.loop.start(other, nullptr);
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&other});
  full = false;
  b.turn();
  CHECK(b.backend.held() == std::vector<op*>{&other, &polls[0], &polls[1], &polls[2]});
  b.backend.answer(other, 1);
  for (told_op& o : polls) b.backend.answer(o, 1);
  b.turn();
}

// ---- settling

TEST_CASE("once the loop has moved so much in a turn, calls that move much wait for the next") {
  bench b;
  b.backend.perform = [](const op_request& r) { return static_cast<std::int64_t>(r.length); };
  op_request hose = request_of(op_kind::sendfile, 3, nullptr, 1 << 20);
  hose.route = op_route::loop_thread;
  std::deque<told_op> hoses;
  for (int i = 0; i < 5; ++i) hoses.emplace_back(hose);
  told_op trickle(request_of(op_kind::send, 3, memory.data(), 100));
  told_op by_worker(request_of(op_kind::write, 3, nullptr, 1 << 20));
  for (told_op& each : hoses) b.loop.start(each, nullptr);
  b.loop.start(trickle, nullptr);
  b.loop.start(by_worker, nullptr);

  const auto turn = [&b] { return b.loop.turn(-1, all, 2 << 20); };
  CHECK(turn() == 4);
  CHECK(hoses[1].times_told == 1);
  CHECK(hoses[2].times_told == 0);
  CHECK(trickle.times_told == 1);
  CHECK(by_worker.times_told == 1);
  CHECK(b.counters.loop.put_off.get() == 3);
  CHECK(b.loop.has_work());  // a guest is called again, and nobody waits
  told_op latecomer(hose);
  b.loop.start(latecomer, nullptr);
  CHECK(turn() == 2);
  CHECK(hoses[3].times_told == 1);  // in their order
  CHECK(latecomer.times_told == 0);
  b.loop.cancel(hoses[4], ECANCELED);
  CHECK(turn() == 2);
  CHECK(hoses[4].told == -ECANCELED);
  CHECK(latecomer.times_told == 1);
  CHECK(turn() == 0);
  CHECK_FALSE(b.loop.has_work());
}

TEST_CASE("EINTR and EAGAIN are absorbed by trying again") {
  bench b;
  told_op o(writing());
  b.backend.script({-EINTR, -EAGAIN, -EINTR, 100});
  b.loop.start(o, nullptr);
  for (int i = 0; i < 3; ++i) CHECK(b.turn() == 0);
  CHECK(b.turn() == 1);
  CHECK(o.told == 100);
  CHECK(b.counters.ops.retried.get() == 3);
  CHECK(o.rounds == 4);
  CHECK(o.short_rounds == 0);
}

TEST_CASE("an op that is interrupted for ever ends with the error after a bounded number") {
  for (const int refusal : {EAGAIN, EINTR}) {
    bench b;
    told_op o(writing());
    for (int i = 0; i < 100; ++i) b.backend.script({-refusal});
    b.loop.start(o, nullptr);
    int turns = 0;
    while (o.times_told == 0) {
      b.turn();
      REQUIRE(++turns <= 100);
    }
    CHECK(o.told == -refusal);
    CHECK(turns == 65);
  }
}

TEST_CASE("a sync that is interrupted is not repeated: the second might say 0 of what was lost") {
  for (const int interruption : {EINTR, EAGAIN}) {
    bench b;
    told_op o(request_of(op_kind::fsync, 3));
    b.backend.script({-interruption, 0});
    b.loop.start(o, nullptr);
    CHECK(b.turn() == 1);
    CHECK(o.told == -interruption);
    CHECK(b.counters.ops.retried.get() == 0);
  }
}

TEST_CASE("a close that is interrupted has closed, and is never repeated") {
  bench b;
  told_op interrupted(request_of(op_kind::close, 3));
  told_op refused(request_of(op_kind::close, 4));
  told_op failed(request_of(op_kind::close, 5));
  b.backend.script({-EINTR, -EAGAIN, -EIO});
  b.loop.start(interrupted, nullptr);
  b.loop.start(refused, nullptr);
  b.loop.start(failed, nullptr);
  CHECK(b.turn() == 3);
  CHECK(interrupted.told == 0);
  CHECK(refused.told == -EAGAIN);
  CHECK(failed.told == -EIO);
  CHECK(b.backend.count_of(event_kind::start) == 3);
}

TEST_CASE("what no thread was found for is tried again, and says so in the end") {
  for (const op_kind kind : {op_kind::fsync, op_kind::write, op_kind::unlinkat}) {
    bench b;
    told_op in_time(request_of(kind, 3, memory.data(), 100));
    told_op never(request_of(kind, 3, memory.data(), 100));
    b.backend.script({-code::no_thread, kind == op_kind::write ? 100 : 0});
    b.loop.start(in_time, nullptr);
    for (int i = 0; i < 2; ++i) b.turn();
    CHECK(in_time.told >= 0);
    for (int i = 0; i < 100; ++i) b.backend.script({-code::no_thread});
    b.loop.start(never, nullptr);
    for (int i = 0; i < 100; ++i) b.turn();
    CHECK(in_time.times_told + never.times_told == 2);
    CHECK(never.told == -code::no_thread);
  }
}

TEST_CASE("a descriptor is closed by the loop itself when no thread is found for it") {
  bench b;
  const int fd = ::dup(0);
  told_op o(request_of(op_kind::close, fd));
  for (int i = 0; i < 65; ++i) b.backend.script({-code::no_thread});
  b.loop.start(o, nullptr);
  for (int i = 0; i < 65; ++i) b.turn();
  CHECK(o.times_told == 1);
  CHECK(o.told == 0);
  CHECK(::fcntl(fd, F_GETFD) < 0);
}

TEST_CASE("progress makes the bound on interruptions begin anew") {
  bench b;
  told_op o(writing());
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 60; ++j) b.backend.script({-EAGAIN});
    b.backend.script({10});
  }
  b.loop.start(o, nullptr);
  for (int i = 0; i < 1000 && o.times_told == 0; ++i) b.turn();
  CHECK(o.told == 100);
}

TEST_CASE("a short write is continued where it stopped, and its result is the sum") {
  bench b;
  told_op o(writing());
  b.loop.start(o, nullptr);
  b.turn();
  b.backend.answer(o, 30);
  CHECK(b.turn() == 0);
  b.turn();
  REQUIRE(b.backend.holds(o));
  CHECK(o.request.data == memory.data() + 30);
  CHECK(o.request.length == 70);
  CHECK(o.request.offset == 1030);
  b.backend.answer(o, 70);
  CHECK(b.turn() == 1);
  CHECK(o.told == 100);
  CHECK(b.counters.ops.resumed_short.get() == 1);
  CHECK(b.counters.ops.submitted.get() == 2);
  CHECK(b.counters.ops.completed.get() == 1);
  CHECK(o.rounds == 2);
  CHECK(o.short_rounds == 1);
}

TEST_CASE("an op that is started once more counts its rounds from the beginning") {
  bench b;
  told_op o(writing());
  b.backend.script({60, 40});
  b.loop.start(o, nullptr);
  while (o.times_told == 0) b.turn();
  CHECK(o.rounds == 2);
  sluice::scope ended;
  ended.cancel(b.loop);
  o.request = writing();
  b.loop.start(o, &ended);
  b.turn();
  CHECK(o.told == -ECANCELED);
  CHECK(o.rounds == 0);
  CHECK(o.short_rounds == 0);
}

TEST_CASE("a write that moves nothing is an I/O error, a read that moves nothing is the end") {
  struct row {
    op_request request;
    std::int64_t first;
    std::int64_t outcome;
  };
  iovec part{memory.data(), 100};
  const std::array rows{
      row{writing(), 0, -EIO},
      row{writing(), 40, -EIO},  // 40, then nothing
      row{reading(), 0, 0},
      row{reading(), 40, 40},  // the end of the file after 40 bytes
      row{receiving(MSG_WAITALL), 0, 0},
      row{receiving(MSG_WAITALL), 40, 40},
      row{receiving(), 0, 0},
      row{request_of(op_kind::write_fixed, 3, memory.data(), 100), 0, -EIO},
      row{request_of(op_kind::writev, 3, &part, 1), 0, -EIO},
      row{request_of(op_kind::writev_fixed, 3, &part, 1), 0, -EIO},
      row{request_of(op_kind::read_fixed, 3, memory.data(), 100), 0, 0},
  };
  for (const row& r : rows) {
    bench b;
    told_op o(r.request);
    b.backend.script({r.first});
    if (r.first != 0) b.backend.script({0});
    b.loop.start(o, nullptr);
    b.turn();
    b.turn();
    CHECK(o.times_told == 1);
    CHECK(o.told == r.outcome);
    if (r.outcome < 0) CHECK(o.done == static_cast<std::uint64_t>(r.first));
  }
}

TEST_CASE("a recv takes what has come unless all was asked for") {
  bench b;
  told_op some(receiving());
  told_op whole(receiving(MSG_WAITALL));
  b.backend.script({10, 10, 90});
  b.loop.start(some, nullptr);
  b.loop.start(whole, nullptr);
  CHECK(b.turn() == 1);
  CHECK(some.told == 10);
  CHECK(b.turn() == 1);
  CHECK(whole.told == 100);
}

TEST_CASE("an error after a part tells the error, and how much had moved") {
  bench b;
  told_op o(writing());
  b.backend.script({30, 20, -ENOSPC});
  b.loop.start(o, nullptr);
  for (int i = 0; i < 3; ++i) b.turn();
  CHECK(o.told == -ENOSPC);
  CHECK(o.done == 50);
}

TEST_CASE("a count with accept_short is the result") {
  bench b;
  told_op o(reading());
  o.request.accept_short = true;
  b.backend.script({10});
  b.loop.start(o, nullptr);
  b.turn();
  CHECK(o.told == 10);
}

// ---- cancelling

TEST_CASE("an idle op is not cancelled") {
  bench b;
  told_op o(writing());
  b.loop.cancel(o, ECANCELED);
  CHECK(o.state() == op_state::idle);
  CHECK(b.turn() == 0);
}

TEST_CASE("a staged op that is cancelled never reaches the backend") {
  bench b;
  told_op o(writing());
  b.loop.start(o, nullptr);
  b.loop.cancel(o, ECANCELED);
  CHECK(o.state() == op_state::harvested);
  b.loop.cancel(o, ETIMEDOUT);  // nothing more happens to it
  CHECK(b.turn() == 1);
  CHECK(o.told == -ECANCELED);
  CHECK(o.times_told == 1);
  CHECK(b.backend.count_of(event_kind::start) == 0);
  CHECK(b.backend.count_of(event_kind::cancel) == 0);
  CHECK(b.counters.ops.cancelled.get() == 1);
}

TEST_CASE("an op in flight is cancelled once and ends with the first reason") {
  bench b;
  told_op o(writing());
  b.loop.start(o, nullptr);
  b.turn();
  b.backend.when_cancelled = support::on_cancel::ignore;
  b.loop.cancel(o, ETIMEDOUT);
  CHECK(o.state() == op_state::cancelling);
  b.loop.cancel(o, ECANCELED);
  CHECK(b.backend.count_of(event_kind::cancel) == 1);
  CHECK(b.turn() == 0);  // still the backend's
  b.backend.answer(o, -ECANCELED);
  CHECK(b.turn() == 1);
  CHECK(o.told == -ETIMEDOUT);
  CHECK(o.times_told == 1);
}

TEST_CASE("whatever an interrupted op answers, it ends with the reason of its cancel") {
  for (const int answer : {ECANCELED, EINTR, EAGAIN, uapi::error_restartsys}) {
    bench b;
    told_op o(writing());
    b.loop.start(o, nullptr);
    b.turn();
    b.backend.when_cancelled = support::on_cancel::ignore;
    b.loop.cancel(o, ECANCELED);
    b.backend.answer(o, -answer);
    CHECK(b.turn() == 1);
    CHECK(o.told == -ECANCELED);
  }
}

TEST_CASE("a sync that was begun when it was cancelled says how it ended") {
  struct row {
    std::int64_t answer;
    std::int64_t told;
  };
  for (const row& r :
       {row{-ECANCELED, -ETIMEDOUT}, row{-code::no_thread, -ETIMEDOUT}, row{-EINTR, -EINTR},
        row{-uapi::error_restartsys, -EINTR}, row{-EIO, -EIO}, row{0, 0}}) {
    bench b;
    told_op o(request_of(op_kind::fsync, 3));
    b.loop.start(o, nullptr);
    b.turn();
    b.backend.when_cancelled = support::on_cancel::ignore;
    b.loop.cancel(o, ETIMEDOUT);
    b.backend.answer(o, r.answer);
    CHECK(b.turn() == 1);
    CHECK(o.told == r.told);
  }
}

TEST_CASE("a cancel that loses the race keeps the result") {
  for (const std::int64_t answer : {std::int64_t{100}, std::int64_t{-EIO}}) {
    bench b;
    told_op o(writing());
    b.loop.start(o, nullptr);
    b.turn();
    b.backend.when_cancelled = support::on_cancel::ignore;
    b.loop.cancel(o, ECANCELED);
    b.backend.answer(o, answer);
    CHECK(b.turn() == 1);
    CHECK(o.told == answer);
    CHECK(o.times_told == 1);
  }
}

TEST_CASE("a harvested op that is cancelled keeps its result") {
  bench b;
  told_op o(writing());
  b.backend.script({100});
  b.loop.start(o, nullptr);
  b.turn(0);
  REQUIRE(o.state() == op_state::harvested);
  b.loop.cancel(o, ECANCELED);
  b.turn();
  CHECK(o.told == 100);
  CHECK(b.backend.count_of(event_kind::cancel) == 0);
}

TEST_CASE("an op cancelled after a part ends with the reason and reports the part") {
  SUBCASE("asked to end while the rest is in flight") {
    bench b;
    told_op o(writing());
    b.backend.script({30});
    b.loop.start(o, nullptr);
    b.turn();
    b.turn();
    b.loop.cancel(o, ECANCELED);
    b.turn();
    CHECK(o.told == -ECANCELED);
    CHECK(o.done == 30);
  }
  SUBCASE("asked to end while the rest is staged") {
    bench b;
    told_op o(writing());
    b.backend.script({30});
    b.loop.start(o, nullptr);
    b.turn();
    REQUIRE(o.state() == op_state::staged);
    b.loop.cancel(o, ETIMEDOUT);
    b.turn();
    CHECK(o.told == -ETIMEDOUT);
    CHECK(o.done == 30);
  }
  SUBCASE("the cancelled round itself moved a part") {
    bench b;
    told_op o(writing());
    b.backend.script({30});
    b.loop.start(o, nullptr);
    b.turn();
    b.turn();
    b.backend.when_cancelled = support::on_cancel::ignore;
    b.loop.cancel(o, ECANCELED);
    b.backend.answer(o, 25);
    b.turn();
    CHECK(o.told == -ECANCELED);
    CHECK(o.done == 55);
    CHECK(b.turn() == 0);  // not continued
  }
  SUBCASE("the cancelled round moved all the rest") {
    bench b;
    told_op o(writing());
    b.backend.script({30});
    b.loop.start(o, nullptr);
    b.turn();
    b.turn();
    b.backend.when_cancelled = support::on_cancel::ignore;
    b.loop.cancel(o, ECANCELED);
    b.backend.answer(o, 70);
    b.turn();
    CHECK(o.told == 100);
  }
}

TEST_CASE("an op may be cancelled from the completion of another") {
  bench b;
  told_op first(writing());
  told_op staged_op(writing());
  told_op flying(writing());
  b.loop.start(flying, nullptr);
  b.loop.start(first, nullptr);
  b.turn();
  first.then = [&] {
    b.loop.start(staged_op, nullptr);
    b.loop.cancel(staged_op, ECANCELED);
    b.loop.cancel(flying, ECANCELED);
  };
  b.backend.answer(first, 100);
  b.turn();
  for (int i = 0; i < 3; ++i) b.turn();
  CHECK(staged_op.told == -ECANCELED);
  CHECK(flying.told == -ECANCELED);
  CHECK(staged_op.times_told + flying.times_told == 2);
}

TEST_CASE("an op asked to end leaves work: a guest must come back for its answer") {
  bench b;
  told_op o(writing());
  b.loop.start(o, nullptr);
  b.turn();
  b.turn();
  REQUIRE_FALSE(b.loop.has_work());
  SUBCASE("asked by the owner") { b.loop.cancel(o, ECANCELED); }
  SUBCASE("asked by its own deadline") {
    b.loop.cancel(o, ECANCELED);
    b.turn();
    o.deadline_ns = 1;
    b.loop.start(o, nullptr);
    b.turn();
  }
  CHECK(b.loop.has_work());
  b.turn();
  CHECK(o.told < 0);
}

// ---- timers

TEST_CASE("an op past its deadline ends with ETIMEDOUT") {
  bench b;
  told_op o(writing());
  o.deadline_ns = kernel::now_ns() + 2'000'000;
  b.loop.start(o, nullptr);
  b.turn();
  CHECK(o.state() == op_state::in_flight);
  for (int i = 0; i < 100 && o.times_told == 0; ++i) b.loop.turn(-1, all);
  CHECK(o.told == -ETIMEDOUT);
  CHECK(kernel::now_ns() >= o.deadline_ns);
  CHECK(b.counters.timers.fired.get() == 1);
  CHECK(b.loop.next_deadline_ns() == 0);
}

TEST_CASE("an op that is answered in time takes its deadline with it") {
  bench b;
  told_op o(writing());
  o.deadline_ns = kernel::now_ns() + 3'600'000'000'000;
  b.loop.start(o, nullptr);
  CHECK(b.loop.next_deadline_ns() == o.deadline_ns);
  b.backend.script({100});
  b.turn();
  CHECK(o.told == 100);
  CHECK(b.loop.next_deadline_ns() == 0);
}

TEST_CASE("a deadline holds over all rounds of an op") {
  bench b;
  told_op o(writing());
  o.deadline_ns = kernel::now_ns() + 5'000'000;
  b.loop.start(o, nullptr);
  for (int i = 0; i < 20; ++i) {
    b.turn();
    if (b.backend.holds(o)) b.backend.answer(o, 1);
  }
  CHECK(b.loop.next_deadline_ns() == o.deadline_ns);
  for (int i = 0; i < 100 && o.times_told == 0; ++i) b.loop.turn(-1, all);
  CHECK(o.told == -ETIMEDOUT);
  CHECK(o.done > 0);
}

TEST_CASE("an op refused for lack of room still meets its deadline") {
  bench b;
  b.backend.room = 0;
  told_op o(writing());
  o.deadline_ns = 1;
  b.loop.start(o, nullptr);
  b.turn();
  CHECK(o.told == -ETIMEDOUT);
  CHECK(b.backend.count_of(event_kind::start) == 0);
}

TEST_CASE("timers fire in the order of their deadlines, equal ones in the order of their start") {
  bench b;
  std::vector<int> fired;
  std::deque<told_op> timers;
  const std::array<std::int64_t, 6> deadlines{50, 10, 30, 10, 20, 40};
  for (int i = 0; i < 6; ++i) {
    told_op& t = timers.emplace_back(request_of(op_kind::timeout));
    t.deadline_ns = deadlines[static_cast<std::size_t>(i)];
    t.then = [&fired, i] { fired.push_back(i); };
    b.loop.start(t, nullptr);
  }
  b.turn();
  CHECK(fired == std::vector<int>{1, 3, 4, 2, 5, 0});
  for (const told_op& t : timers) CHECK(t.told == 0);
}

TEST_CASE("a wait lasts until the next deadline, or the limit given, whichever is sooner") {
  bench b;
  told_op soon(request_of(op_kind::timeout));
  told_op late(request_of(op_kind::timeout));
  soon.deadline_ns = kernel::now_ns() + 30'000'000;
  late.deadline_ns = soon.deadline_ns + 3'600'000'000'000;
  b.loop.start(late, nullptr);
  b.loop.start(soon, nullptr);
  b.backend.during_wait = [&] { b.backend.wake(); };
  b.loop.turn(-1, all);
  CHECK(b.backend.last_timeout_ns > 0);
  CHECK(b.backend.last_timeout_ns <= 30'000'000);
  b.loop.turn(1000, all);
  CHECK(b.backend.last_timeout_ns == 1000);
  b.loop.turn(0, all);
  CHECK(b.backend.last_timeout_ns == 0);
  b.loop.cancel(soon, ECANCELED);
  b.loop.turn(-1, all);
  CHECK(b.backend.last_timeout_ns == 0);  // the cancelled one is to be told
  b.loop.cancel(late, ECANCELED);
  b.turn();
  b.loop.turn(-1, all);
  CHECK(b.backend.last_timeout_ns == -1);
}

// ---- parked ops

TEST_CASE("a parked op ends when it is answered, is cancelled, or is late, and never twice") {
  bench b;
  told_op o(request_of(op_kind::park));
  SUBCASE("answered") {
    b.loop.start(o, nullptr);
    CHECK(o.state() == op_state::in_flight);
    b.loop.answer_parked(o, 7);
    b.loop.cancel(o, ECANCELED);
    b.turn();
    CHECK(o.told == 7);
  }
  SUBCASE("cancelled") {
    b.loop.start(o, nullptr);
    b.loop.cancel(o, ECANCELED);
    b.turn();
    CHECK(o.told == -ECANCELED);
  }
  SUBCASE("late") {
    o.deadline_ns = 1;
    b.loop.start(o, nullptr);
    b.turn();
    CHECK(o.told == -ETIMEDOUT);
  }
  CHECK(o.times_told == 1);
  CHECK(b.backend.count_of(event_kind::start) == 0);
  CHECK(b.backend.count_of(event_kind::cancel) == 0);
}

// ---- the mailbox

TEST_CASE("posts run in their order, those of a post in the next turn") {
  bench b;
  std::string order;
  b.loop.post([&] {
    order += "a";
    b.loop.post([&] { order += "c"; });
  });
  b.loop.post([&] { order += "b"; });
  b.turn();
  CHECK(order == "ab");
  b.loop.turn(-1, all);  // woken by the post within
  CHECK(order == "abc");
  CHECK(b.counters.mailbox.posts.get() == 3);
}

TEST_CASE("posts from other threads wake the loop and run in each thread's order, none lost") {
  bench b;
  constexpr int threads_count = 4;
  constexpr int posts_each = 2000;
  std::array<int, threads_count> next{};
  bool in_order = true;
  int total = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < threads_count; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < posts_each; ++i) {
          b.loop.post([&, t, i] {
            in_order = in_order && next[static_cast<std::size_t>(t)]++ == i;
            ++total;
          });
        }
      });
    }
    while (total < threads_count * posts_each) {
      const std::int64_t before = kernel::now_ns();
      b.loop.turn(-1, all);
      REQUIRE(kernel::now_ns() - before < 9'000'000'000);  // a lost wake-up
    }
  }
  CHECK(in_order);
}

// ---- scopes

TEST_CASE("cancelling a scope reaches its ops in every state and no others") {
  bench b;
  scope s;
  told_op flying(writing());
  told_op stranger(writing());
  told_op parked(request_of(op_kind::park));
  told_op sleeping(request_of(op_kind::timeout));
  told_op answered(writing());
  told_op waiting(writing());
  sleeping.deadline_ns = kernel::now_ns() + 3'600'000'000'000;
  b.backend.script({100});
  b.loop.start(answered, &s);
  b.turn(0);
  REQUIRE(answered.state() == op_state::harvested);
  b.loop.start(flying, &s);
  b.loop.start(stranger, nullptr);
  b.turn(0);
  b.loop.start(parked, &s);
  b.loop.start(sleeping, &s);
  b.loop.start(waiting, &s);
  s.cancel(b.loop);
  CHECK(s.cancelled());
  for (int i = 0; i < 3; ++i) b.turn();
  CHECK(answered.told == 100);
  CHECK(flying.told == -ECANCELED);
  CHECK(parked.told == -ECANCELED);
  CHECK(sleeping.told == -ECANCELED);
  CHECK(waiting.told == -ECANCELED);
  CHECK(stranger.times_told == 0);
  CHECK(s.ops.empty());
  b.backend.answer(stranger, 100);
  b.turn();
}

TEST_CASE("nothing of a cancelled scope starts: each op ends with ECANCELED in its turn") {
  bench b;
  scope s;
  s.cancel(b.loop);
  std::array<told_op, 3> ops;
  ops[0].request = writing();
  ops[1].request = request_of(op_kind::timeout);
  ops[1].deadline_ns = kernel::now_ns() + 3'600'000'000'000;
  ops[2].request = request_of(op_kind::park);
  for (told_op& o : ops) {
    b.loop.start(o, &s);
    CHECK(o.state() == op_state::harvested);
    CHECK(o.times_told == 0);  // never told from within start
  }
  CHECK(b.turn() == 3);
  for (const told_op& o : ops) CHECK(o.told == -ECANCELED);
  CHECK(b.backend.count_of(event_kind::start) == 0);
  CHECK(b.loop.next_deadline_ns() == 0);
}

TEST_CASE("a cancelled scope's op that is begun anew by its completion ends as well") {
  bench b;
  scope s;
  told_op o(writing());
  o.then = [&] {
    if (o.times_told < 4) b.loop.start(o, &s);
  };
  b.loop.start(o, &s);
  b.turn();
  s.cancel(b.loop);
  for (int i = 0; i < 5; ++i) b.turn();
  CHECK(o.times_told == 4);
  CHECK(o.told == -ECANCELED);
  CHECK(b.backend.count_of(event_kind::start) == 1);
}

TEST_CASE("a loop destroyed with an op under way aborts, whatever the build") {
  CHECK(support::aborts([] {
    scripted_backend backend;
    tuning::counters counters;
    auto* o = new told_op(writing());
    sluice::loop l(backend, counters);
    l.start(*o, nullptr);
  }));
}

// ---- everything at once

// Random ops with random answers, cancels, deadlines, refusals and scopes. What must hold whatever
// comes: each op ends exactly once, with a result that its history allows, and the counters add up.
struct random_op : told_op {
  std::uint64_t moved = 0;  // as the backend answered
  bool asked = false;       // to end
  scope* of = nullptr;
};

class storm {
 public:
  explicit storm(std::uint64_t seed) : random_(seed) {}

  void run() {
    b_.backend.when_cancelled = support::on_cancel::ignore;
    for (int turn = 0; turn < 3000; ++turn) step();
    b_.backend.room = all;
    finishing_ = true;
    for (int turn = 0; turn < 500 && b_.loop.ops_under_way() > 0; ++turn) step();
    check_end();
  }

 private:
  void step() {
    if (!finishing_) begin_some();
    if (random_.one_in(3)) cancel_one();
    if (random_.one_in(50) && !finishing_) cancel_scope();
    b_.backend.room = finishing_ || random_.one_in(4) ? all : random_.below(20);
    b_.backend.order =
        random_.one_in(2) ? support::answer_order::last_first : support::answer_order::first_first;
    answer_some();
    told_ += b_.loop.turn(0, random_.below(16) + (finishing_ ? 16 : 0));
  }

  void begin_some() {
    for (std::uint64_t n = random_.below(8); n > 0; --n) {
      random_op& o = ops_.emplace_back();
      o.request = random_request();
      if (random_.one_in(4)) o.of = &scopes_[random_.below(scopes_.size())];
      if (random_.one_in(10) || o.request.kind == op_kind::timeout) {
        o.deadline_ns = random_.one_in(2) ? 1 : kernel::now_ns() + 100'000;
      }
      b_.loop.start(o, o.of);
      ++begun_;
    }
  }

  op_request random_request() {
    switch (random_.below(6)) {
      case 0: return reading();
      case 1: return receiving();
      case 2: return receiving(MSG_WAITALL);
      case 3: return request_of(op_kind::fsync, 3);
      case 4: return request_of(op_kind::timeout);
      default: return writing();
    }
  }

  void cancel_one() {
    if (ops_.empty()) return;
    random_op& o = ops_[ops_.size() - 1 - random_.below(std::min<std::size_t>(ops_.size(), 40))];
    if (o.state() == op_state::staged || o.state() == op_state::in_flight) o.asked = true;
    b_.loop.cancel(o, ECANCELED);
  }

  // The scope is replaced when its ops have drained; a cancelled one stays so.
  void cancel_scope() { scopes_[random_.below(scopes_.size())].cancel(b_.loop); }

  void answer_some() {
    const std::vector<op*> held = b_.backend.held();
    for (op* each : held) {
      auto& o = static_cast<random_op&>(*each);
      if (!finishing_ && !random_.one_in(3)) continue;
      b_.backend.answer(o, random_answer(o));
    }
  }

  std::int64_t random_answer(random_op& o) {
    if (o.request.kind == op_kind::fsync) return random_.one_in(10) ? -EIO : 0;
    if (o.state() == op_state::cancelling && random_.one_in(2)) return -ECANCELED;
    switch (random_.below(finishing_ ? 4 : 8)) {
      case 0: return random_.one_in(4) ? -ENOSPC : take(o, o.request.length);
      case 1: return -EINTR;
      case 2: return random_.one_in(8) ? 0 : take(o, random_.below(o.request.length) + 1);
      case 3: return take(o, o.request.length);
      case 4: return -EAGAIN;
      default: return take(o, random_.below(o.request.length) + 1);
    }
  }
  static std::int64_t take(random_op& o, std::uint64_t count) {
    o.moved += count;
    return static_cast<std::int64_t>(count);
  }

  void check_end() {
    REQUIRE(b_.loop.ops_under_way() == 0);
    CHECK(told_ == begun_);
    std::uint64_t cancelled = 0;
    for (const random_op& o : ops_) {
      REQUIRE(o.times_told == 1);
      if (o.told >= 0 && o.request.kind != op_kind::timeout && o.request.kind != op_kind::fsync) {
        REQUIRE(static_cast<std::uint64_t>(o.told) == o.moved);
        REQUIRE(o.moved <= 100);
      }
      if (o.told < 0) REQUIRE(o.done <= o.moved);
      if (o.told == -ECANCELED) {
        ++cancelled;
        REQUIRE((o.asked || (o.of != nullptr && o.of->cancelled())));
      }
      if (o.told == -ETIMEDOUT) REQUIRE(o.deadline_ns != 0);
      if (o.request.kind == op_kind::write) REQUIRE(o.told != 0);
    }
    for (const scope& s : scopes_) REQUIRE(s.ops.empty());
    CHECK(b_.counters.ops.completed.get() == begun_);
    CHECK(b_.counters.ops.cancelled.get() == cancelled);
    CHECK(b_.counters.ops.submitted.get() == b_.backend.count_of(event_kind::start));
    CHECK(cancelled > 100);
    CHECK(b_.loop.next_deadline_ns() == 0);
  }

  bench b_;
  std::array<scope, 4> scopes_;
  std::deque<random_op> ops_;
  support::seeded_random random_;
  std::size_t begun_ = 0;
  std::size_t told_ = 0;
  bool finishing_ = false;
};

TEST_CASE("whatever is answered, refused, cancelled or late, every op ends exactly once") {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    storm(seed).run();
  }
}

}  // namespace
