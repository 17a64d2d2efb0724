// What every backend must do, written once: included by the test of each, which says how its
// backend is made. The kernel is real here; the loop carries the rounds.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <latch>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/backend.hpp"
#include "backend/loop.hpp"
#include "kernel/clock.hpp"
#include "kernel/fd.hpp"
#include "kernel/pipe.hpp"
#include "kernel/socket.hpp"
#include "ops/table.hpp"
#include "sluice/scope.hpp"
#include "support/all_given_back.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"
#include "support/told_op.hpp"
#include "tuning/counter_values.hpp"
#include "tuning/knob_values.hpp"

namespace suite {

using namespace sluice;
using support::pattern;
using support::request_of;
using support::stream_pair;
using support::temp_dir;
using support::told_op;

struct settings {
  std::string hidden = {};  // as sluice.capabilities.hidden
  std::uint32_t ring_entries = 64;
  std::uint32_t completion_entries = 256;
  std::uint32_t threads = 4;
};

// Defined by the test that includes this.
std::unique_ptr<backend> make_backend(const settings& wanted, tuning::counters& counters);

class bench {
 public:
  explicit bench(const settings& wanted = {})
      : backend_(make_backend(wanted, counters)), loop_(*backend_, counters) {}

  loop& on() { return loop_; }
  backend& carrier() { return *backend_; }

  void start(told_op& o, scope* s = nullptr) { loop_.start(o, s); }
  void turn(std::int64_t timeout_ns = 0) { loop_.turn(timeout_ns, 1000); }
  // Turns until it holds; false after ten seconds.
  template <class Predicate>
  bool until(Predicate holds) {
    const std::int64_t end = kernel::now_ns() + 10'000'000'000;
    while (!holds()) {
      if (kernel::now_ns() > end) return false;
      turn(100'000'000);
    }
    return true;
  }
  // Starts it and turns until it is told; the result.
  std::int64_t run(told_op& o) {
    start(o);
    REQUIRE(until([&o] { return o.times_told == 1; }));
    return o.told;
  }
  std::int64_t run(const op_request& r) {
    told_op o(r);
    return run(o);
  }
  // Turns a few times, for what should not happen.
  void idle_turns(int count = 3) {
    for (int i = 0; i < count; ++i) turn(2'000'000);
  }
  // Gives a socket the mode that its backend wants.
  int own(int fd) {
    REQUIRE(kernel::set_mode(fd, backend_->socket_mode()).has_value());
    return fd;
  }

  support::all_given_back watch;
  tuning::counters counters;

 private:
  std::unique_ptr<backend> backend_;
  loop loop_;
};

inline op_request recv_into(int fd, std::span<std::byte> into, std::uint32_t flags = 0) {
  return request_of(op_kind::recv, fd, into.data(), into.size(), 0, flags);
}
inline op_request send_of(int fd, std::span<const std::byte> bytes) {
  return request_of(op_kind::send, fd, const_cast<std::byte*>(bytes.data()), bytes.size(), 0,
                    MSG_NOSIGNAL | MSG_WAITALL);
}
inline op_request poll_for(int fd, std::uint32_t events) {
  return request_of(op_kind::poll, fd, nullptr, 0, 0, events);
}
inline op_request call_of(std::int64_t (*function)(void*), void* context) {
  op_request r = request_of(op_kind::call);
  r.function = function;
  r.data = context;
  return r;
}

// Many threads wait here until the test lets them go.
struct gate {
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  int inside_max = 0;
  int passed = 0;
  bool open = false;

  static std::int64_t pass(void* context) {
    auto& g = *static_cast<gate*>(context);
    std::unique_lock lock(g.mutex);
    g.inside_max = std::max(g.inside_max, ++g.inside);
    g.changed.notify_all();
    g.changed.wait(lock, [&g] { return g.open; });
    --g.inside;
    return ++g.passed;
  }
  void wait_for_inside(int count) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(10), [this, count] { return inside >= count; });
  }
  void let_go() {
    const std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
};

// ---- sockets

TEST_CASE("bytes are echoed through a stream, TCP and AF_UNIX") {
  for (const bool tcp : {true, false}) {
    bench b;
    stream_pair pair = tcp ? stream_pair::tcp() : stream_pair::local();
    const int fd = b.own(pair.ours());
    const std::vector<std::byte> sent = pattern(1, 0, 1000);
    REQUIRE(support::send_all(pair.theirs(), sent));
    std::vector<std::byte> got(1000);
    CHECK(b.run(recv_into(fd, got, MSG_WAITALL)) == 1000);
    CHECK(got == sent);
    CHECK(b.run(send_of(fd, got)) == 1000);
    std::vector<std::byte> back(1000);
    CHECK(support::recv_all(pair.theirs(), back) == 1000);
    CHECK(back == sent);
    pair.close_theirs();
    CHECK(b.run(recv_into(fd, got)) == 0);
  }
}

TEST_CASE("a recv of all takes it in the pieces in which it comes") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  std::vector<std::byte> got(1000);
  told_op o(recv_into(b.own(pair.ours()), got, MSG_WAITALL));
  b.start(o);
  std::size_t sent = 0;
  for (const std::size_t piece : {1U, 99U, 400U, 499U}) {
    REQUIRE(support::send_all(pair.theirs(), pattern(2, sent, piece)));
    sent += piece;
    b.idle_turns();
    CHECK(o.times_told == 0);
  }
  REQUIRE(support::send_all(pair.theirs(), pattern(2, sent, 1)));
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == 1000);
  CHECK(support::is_pattern(got, 2, 0));
}

TEST_CASE("a recv of all ends short at the end of the stream") {
  bench b;
  stream_pair pair = stream_pair::local();
  std::vector<std::byte> got(100);
  told_op o(recv_into(b.own(pair.ours()), got, MSG_WAITALL));
  b.start(o);
  REQUIRE(support::send_all(pair.theirs(), pattern(3, 0, 40)));
  b.idle_turns();
  pair.close_theirs();
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == 40);
}

TEST_CASE("a message is received and sent from several places") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::array<std::byte, 30> first{};
  std::array<std::byte, 70> second{};
  std::array<iovec, 2> parts{iovec{first.data(), first.size()}, {second.data(), second.size()}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = 2;
  told_op o(request_of(op_kind::recvmsg, fd, &message, 0, 0, MSG_WAITALL));
  b.start(o);
  REQUIRE(support::send_all(pair.theirs(), pattern(4, 0, 50)));
  b.idle_turns();
  REQUIRE(support::send_all(pair.theirs(), pattern(4, 50, 50)));
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == 100);
  CHECK(support::is_pattern(first, 4, 0));
  CHECK(support::is_pattern(second, 4, 30));

  parts = {iovec{first.data(), first.size()}, {second.data(), second.size()}};
  message.msg_iov = parts.data();
  message.msg_iovlen = 2;
  CHECK(b.run(request_of(op_kind::sendmsg, fd, &message, 0, 0, MSG_NOSIGNAL | MSG_WAITALL)) == 100);
  std::vector<std::byte> back(100);
  CHECK(support::recv_all(pair.theirs(), back) == 100);
  CHECK(support::is_pattern(back, 4, 0));
}

TEST_CASE("a send larger than the socket's buffer goes on as the peer reads") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  constexpr std::size_t bytes = 8U << 20U;
  const std::vector<std::byte> sent = pattern(5, 0, bytes);
  std::vector<std::byte> got(bytes);
  told_op o(send_of(b.own(pair.ours()), sent));
  b.start(o);
  b.idle_turns();
  CHECK(o.times_told == 0);
  std::jthread reader([&] { support::recv_all(pair.theirs(), got); });
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  reader.join();
  CHECK(o.told == static_cast<std::int64_t>(bytes));
  CHECK(got == sent);
}

TEST_CASE("sending to a peer that is gone is EPIPE and no signal") {
  bench b;
  stream_pair pair = stream_pair::local();
  pair.close_theirs();
  CHECK(b.run(send_of(b.own(pair.ours()), pattern(0, 0, 10))) == -EPIPE);
}

TEST_CASE("a reset ends a waiting recv with ECONNRESET") {
  bench b;
  stream_pair pair = stream_pair::tcp();
  std::vector<std::byte> got(100);
  told_op o(recv_into(b.own(pair.ours()), got));
  b.start(o);
  b.idle_turns();
  support::reset_at_close(pair.theirs());
  pair.close_theirs();
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == -ECONNRESET);
}

TEST_CASE("a recv that waits is cancelled, and what comes later is there for the next") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::vector<std::byte> got(100);
  told_op o(recv_into(fd, got));
  b.start(o);
  b.idle_turns();
  b.on().cancel(o, ECANCELED);
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == -ECANCELED);
  REQUIRE(support::send_all(pair.theirs(), pattern(6, 0, 100)));
  b.idle_turns();
  CHECK(o.times_told == 1);
  CHECK(b.run(recv_into(fd, got, MSG_WAITALL)) == 100);
  CHECK(support::is_pattern(got, 6, 0));
}

TEST_CASE("a recv that waits ends at its deadline") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  std::vector<std::byte> got(100);
  told_op o(recv_into(b.own(pair.ours()), got));
  o.deadline_ns = kernel::now_ns() + 5'000'000;
  b.start(o);
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == -ETIMEDOUT);
  CHECK(kernel::now_ns() >= o.deadline_ns);
}

TEST_CASE("an op may be cancelled in the same turn in which it was begun and answered") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::vector<std::byte> got(10);
  for (int round = 0; round < 50; ++round) {
    REQUIRE(support::send_all(pair.theirs(), pattern(7, 0, 10)));
    told_op answered(recv_into(fd, got, MSG_WAITALL));
    told_op other(poll_for(fd, POLLIN));
    told_op waiting(recv_into(fd, got));
    other.then = [&] {
      b.on().cancel(answered, ECANCELED);
      b.on().cancel(waiting, ECANCELED);
    };
    b.start(other);
    b.start(answered);
    REQUIRE(b.until([&] { return answered.times_told == 1 && other.times_told == 1; }));
    if (answered.told == -ECANCELED) {
      CHECK(b.run(recv_into(fd, got, MSG_WAITALL)) == 10);
    } else {
      CHECK(answered.told == 10);
    }
  }
}

TEST_CASE("connections are accepted, the one that waits and the one that comes") {
  bench b;
  sockaddr_in address{};
  const kernel::unique_fd listening(b.own(support::listen_on_loopback(address)));
  const auto connect_one = [&address] {
    kernel::unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return fd;
  };
  const op_request accepting =
      request_of(op_kind::accept, listening.get(), nullptr, 0, 0, SOCK_CLOEXEC);
  const kernel::unique_fd early = connect_one();
  const kernel::unique_fd first(static_cast<int>(b.run(accepting)));
  CHECK(first);
  CHECK((::fcntl(first.get(), F_GETFD) & FD_CLOEXEC) != 0);

  told_op o(accepting);
  b.start(o);
  b.idle_turns();
  CHECK(o.times_told == 0);
  const kernel::unique_fd late = connect_one();
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  const kernel::unique_fd second(static_cast<int>(o.told));
  CHECK(second);

  told_op nobody(accepting);
  b.start(nobody);
  b.idle_turns();
  b.on().cancel(nobody, ECANCELED);
  REQUIRE(b.until([&] { return nobody.times_told == 1; }));
  CHECK(nobody.told == -ECANCELED);
}

TEST_CASE("a connect succeeds where somebody listens and is refused where nobody does") {
  bench b;
  sockaddr_in address{};
  kernel::unique_fd listening(support::listen_on_loopback(address));
  kernel::unique_fd fd(b.own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  op_request connecting = request_of(op_kind::connect, fd.get(), &address, sizeof address);
  CHECK(b.run(connecting) == 0);
  CHECK(b.run(send_of(fd.get(), pattern(8, 0, 10))) == 10);
  listening.reset();
  fd.reset(b.own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  connecting.fd = fd.get();
  CHECK(b.run(connecting) == -ECONNREFUSED);
}

TEST_CASE("a poll tells the events that came, and of a file that it is ready") {
  bench b;
  stream_pair pair = stream_pair::local();
  const int fd = b.own(pair.ours());
  told_op o(poll_for(fd, POLLIN | POLLRDHUP));
  b.start(o);
  b.idle_turns();
  CHECK(o.times_told == 0);
  REQUIRE(support::send_all(pair.theirs(), pattern(9, 0, 1)));
  REQUIRE(b.until([&] { return o.times_told == 1; }));
  CHECK(o.told == POLLIN);
  CHECK(b.run(poll_for(fd, POLLOUT)) == POLLOUT);
  pair.close_theirs();
  CHECK((b.run(poll_for(fd, POLLIN | POLLRDHUP)) & (POLLHUP | POLLRDHUP)) == (POLLHUP | POLLRDHUP));
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  CHECK(b.run(poll_for(file.get(), POLLIN)) == POLLIN);
}

TEST_CASE("an op on a descriptor that is none is EBADF, whatever its kind") {
  bench b;
  std::array<std::byte, 16> bytes{};
  int closed = ::dup(0);
  ::close(closed);
  for (const int fd : {-1, closed}) {
    CAPTURE(fd);
    CHECK(b.run(recv_into(fd, bytes)) == -EBADF);
    CHECK(b.run(send_of(fd, bytes)) == -EBADF);
    CHECK(b.run(poll_for(fd, POLLIN)) == -EBADF);
    CHECK(b.run(request_of(op_kind::accept, fd)) == -EBADF);
    CHECK(b.run(request_of(op_kind::read, fd, bytes.data(), 16)) == -EBADF);
    CHECK(b.run(request_of(op_kind::write, fd, bytes.data(), 16)) == -EBADF);
    CHECK(b.run(request_of(op_kind::fsync, fd)) == -EBADF);
    CHECK(b.run(request_of(op_kind::close, fd)) == -EBADF);
  }
  // The carrier is as good as before.
  const stream_pair pair = stream_pair::local();
  REQUIRE(support::send_all(pair.theirs(), bytes));
  CHECK(b.run(recv_into(b.own(pair.ours()), bytes)) == 16);
}

TEST_CASE("a socket operation on a file is ENOTSOCK") {
  bench b;
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  std::array<std::byte, 16> bytes{};
  CHECK(b.run(recv_into(file.get(), bytes)) == -ENOTSOCK);
  CHECK(b.run(send_of(file.get(), bytes)) == -ENOTSOCK);
}

TEST_CASE("a shutdown is carried out and ends the peer's stream") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  std::array<std::byte, 4> bytes{};
  CHECK(b.run(request_of(op_kind::shutdown, b.own(pair.ours()), nullptr, 0, 0, SHUT_WR)) == 0);
  CHECK(support::recv_all(pair.theirs(), bytes) == 0);
}

TEST_CASE("a recv and a send wait on one descriptor, and each is served by its own event") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  constexpr std::size_t bytes = 8U << 20U;
  const std::vector<std::byte> sent = pattern(10, 0, bytes);
  std::vector<std::byte> got(100);
  told_op sending(send_of(fd, sent));
  told_op receiving(recv_into(fd, got, MSG_WAITALL));
  b.start(sending);
  b.start(receiving);
  b.idle_turns();
  CHECK(sending.times_told + receiving.times_told == 0);
  REQUIRE(support::send_all(pair.theirs(), pattern(11, 0, 100)));
  REQUIRE(b.until([&] { return receiving.times_told == 1; }));
  CHECK(sending.times_told == 0);
  CHECK(receiving.told == 100);
  std::vector<std::byte> seen(bytes);
  std::jthread reader([&] { support::recv_all(pair.theirs(), seen); });
  REQUIRE(b.until([&] { return sending.times_told == 1; }));
  reader.join();
  CHECK(seen == sent);
}

TEST_CASE("a poll and a recv wait on one descriptor and both are told") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::vector<std::byte> got(10);
  told_op polling(poll_for(fd, POLLIN));
  told_op receiving(recv_into(fd, got));
  b.start(polling);
  b.start(receiving);
  b.idle_turns();
  REQUIRE(support::send_all(pair.theirs(), pattern(12, 0, 10)));
  REQUIRE(b.until([&] { return polling.times_told == 1 && receiving.times_told == 1; }));
  CHECK(polling.told == POLLIN);
  CHECK(receiving.told == 10);
}

TEST_CASE("cancelling one of two that wait on one descriptor leaves the other waiting") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::vector<std::byte> got(10);
  told_op polling(poll_for(fd, POLLIN));
  told_op receiving(recv_into(fd, got));
  b.start(polling);
  b.start(receiving);
  b.idle_turns();
  b.on().cancel(polling, ECANCELED);
  REQUIRE(b.until([&] { return polling.times_told == 1; }));
  CHECK(polling.told == -ECANCELED);
  CHECK(receiving.times_told == 0);
  REQUIRE(support::send_all(pair.theirs(), pattern(12, 0, 10)));
  REQUIRE(b.until([&] { return receiving.times_told == 1; }));
  CHECK(receiving.told == 10);
}

TEST_CASE("a descriptor number that is used again serves its new file") {
  bench b;
  const int number = ::dup(0);
  for (int round = 0; round < 6; ++round) {
    const stream_pair pair = round % 2 == 0 ? stream_pair::tcp() : stream_pair::local();
    ::dup2(b.own(pair.ours()), number);  // closes what had the number before
    std::vector<std::byte> got(10);
    told_op o(recv_into(number, got));
    b.start(o);
    b.idle_turns(1);
    CHECK(o.times_told == 0);
    if (round % 3 == 1) {
      b.on().cancel(o, ECANCELED);
    } else {
      REQUIRE(support::send_all(pair.theirs(), pattern(13, 0, 10)));
    }
    REQUIRE(b.until([&] { return o.times_told == 1; }));
    CHECK(o.told == (round % 3 == 1 ? -ECANCELED : 10));
  }
  ::close(number);
}

// ---- files

// Does to a directory all that a file operation can do, and notes every result.
std::vector<std::int64_t> file_operations(bench& b, const temp_dir& dir) {
  std::vector<std::int64_t> results;
  const auto note = [&](const op_request& r) {
    results.push_back(b.run(r));
    return results.back();
  };
  const auto at = [&](op_kind kind, const char* path, const char* path2 = nullptr) {
    op_request r = request_of(kind, dir.fd());
    r.path = path;
    r.fd2 = dir.fd();
    r.path2 = path2;
    return r;
  };
  open_how how{};
  how.flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  how.mode = 0600;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  op_request opening = at(op_kind::openat2, "one");
  opening.data = &how;
  const int fd = static_cast<int>(b.run(opening));
  REQUIRE(fd >= 0);
  note(opening);  // EEXIST
  op_request leading_out = at(op_kind::openat2, "../one");
  leading_out.data = &how;
  note(leading_out);  // EXDEV

  std::vector<std::byte> bytes = pattern(14, 0, 10'000);
  note(request_of(op_kind::write, fd, bytes.data(), 10'000, 5));
  std::vector<std::byte> back(20'000);
  CHECK(note(request_of(op_kind::read, fd, back.data(), 20'000, 5)) == 10'000);
  CHECK(support::is_pattern(std::span(back).first(10'000), 14, 0));
  std::array<iovec, 2> parts{iovec{bytes.data(), 100}, iovec{bytes.data() + 5000, 100}};
  note(request_of(op_kind::writev, fd, parts.data(), 2, 1));
  parts = {iovec{back.data(), 50}, iovec{back.data() + 50, 150}};
  CHECK(note(request_of(op_kind::readv, fd, parts.data(), 2, 1)) == 200);
  CHECK(support::is_pattern(std::span(back).first(100), 14, 0));
  CHECK(support::is_pattern(std::span(back).subspan(100, 100), 14, 5000));
  note(request_of(op_kind::read, fd, back.data(), 100, 1'000'000));  // 0: the end

  note(request_of(op_kind::fallocate, fd, nullptr, 1 << 20, 0));
  note(request_of(op_kind::ftruncate, fd, nullptr, 12'345));
  struct statx info{};
  op_request asking = at(op_kind::statx, "one");
  asking.length = STATX_BASIC_STATS;
  asking.data = &info;
  note(asking);
  CHECK(info.stx_size == 12'345);
  note(request_of(op_kind::fsync, fd));
  note(request_of(op_kind::fsync, fd, nullptr, 0, 0, fsync_data_only));

  note(at(op_kind::linkat, "one", "two"));
  note(at(op_kind::linkat, "one", "two"));  // EEXIST
  op_request renaming = at(op_kind::renameat2, "one", "two");
  renaming.flags = RENAME_NOREPLACE;
  note(renaming);  // EEXIST
  note(at(op_kind::unlinkat, "two"));
  note(renaming);
  note(at(op_kind::renameat2, "absent", "two"));  // ENOENT
  op_request making = at(op_kind::mkdirat, "folder");
  making.length = 0700;
  note(making);
  note(making);                           // EEXIST
  note(at(op_kind::unlinkat, "folder"));  // EISDIR
  op_request removing = at(op_kind::unlinkat, "folder");
  removing.flags = AT_REMOVEDIR;
  note(removing);
  note(request_of(op_kind::close, fd));
  note(request_of(op_kind::close, fd));  // EBADF
  CHECK(dir.entry_count() == 1);
  CHECK(dir.has("two"));
  return results;
}

const std::vector<std::int64_t>& expected_file_results() {
  static const std::vector<std::int64_t> expected{
      -EEXIST, -EXDEV,  10'000,  10'000, 200, 200,     0,  // open, write, read, vectors, end
      0,       0,       0,       0,      0,                // reserve, truncate, statx, syncs
      0,       -EEXIST, -EEXIST, 0,      0,   -ENOENT,     // names
      0,       -EEXIST, -EISDIR, 0,      0,   -EBADF};     // folders, close
  return expected;
}

TEST_CASE("every file operation is carried out, with the result of its system call") {
  bench b;
  const temp_dir dir;
  CHECK(file_operations(b, dir) == expected_file_results());
}

// A splice or copy from `from` to `to`, a descriptor each with its offset.
struct place {
  int fd;
  std::uint64_t offset = op_no_offset;
};
inline op_request moving(op_kind kind, place from, place to, std::uint64_t length,
                         op_route route = op_route::automatic) {
  op_request r = request_of(kind, to.fd);
  r.offset = to.offset;
  r.fd2 = from.fd;
  r.offset2 = from.offset;
  r.length = length;
  r.route = route;
  return r;
}

constexpr std::array every_route{op_route::automatic, op_route::ring_thread, op_route::worker,
                                 op_route::loop_thread};

TEST_CASE("bytes are spliced from file to pipe to file, at their offsets, by every route") {
  for (const op_route route : every_route) {
    bench b;
    const temp_dir dir;
    const kernel::unique_fd from(dir.open("from"));
    const kernel::unique_fd to(dir.open("to"));
    const std::vector<std::byte> written = pattern(41, 0, 10'000);
    REQUIRE(::write(from.get(), written.data(), written.size()) == 10'000);
    const result<kernel::pipe> pipe = kernel::pipe::make(65'536);
    REQUIRE(pipe.has_value());
    CHECK(b.run(moving(op_kind::splice, {from.get(), 100}, {pipe->write_end()}, 5000, route)) ==
          5000);
    CHECK(b.run(moving(op_kind::splice, {pipe->read_end()}, {to.get(), 7}, 5000, route)) == 5000);
    std::vector<std::byte> got(5000);
    REQUIRE(::pread(to.get(), got.data(), got.size(), 7) == 5000);
    CHECK(support::is_pattern(got, 41, 100));
    CHECK(pipe->is_empty());
    // At the end of the file: nothing.
    CHECK(b.run(moving(op_kind::splice, {from.get(), 10'000}, {pipe->write_end()}, 5, route)) == 0);
  }
}

// Of this thread: whether it blocks SIGPIPE, and whether one is pending.
struct sigpipe_state {
  static sigpipe_state now() {
    sigset_t blocked;
    sigset_t pending;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    sigpending(&pending);
    return {sigismember(&blocked, SIGPIPE) == 1, sigismember(&pending, SIGPIPE) == 1};
  }
  bool is_blocked = true;
  bool is_pending = true;
};

TEST_CASE("SIGPIPE of calls that the loop makes ends nobody, and is gone when completions run") {
  ::signal(SIGPIPE, SIG_DFL);
  bench b;
  const stream_pair dead = stream_pair::tcp();
  const stream_pair alive = stream_pair::tcp();
  REQUIRE(::shutdown(dead.ours(), SHUT_WR) == 0);
  const result<kernel::pipe> one = kernel::pipe::make(4096);
  const result<kernel::pipe> other = kernel::pipe::make(4096);
  REQUIRE((one && other));
  for (const auto& pipe : {&one, &other}) REQUIRE(::write((*pipe)->write_end(), "x", 1) == 1);
  const auto splicing = [](const kernel::pipe& from, int to) {
    op_request r = moving(op_kind::splice, {from.read_end()}, {to}, 1, op_route::loop_thread);
    r.flags = SPLICE_F_NONBLOCK;
    return r;
  };
  // In one turn, the one that raises it before one that does not.
  told_op failing(splicing(*one, dead.ours()));
  told_op working(splicing(*other, alive.ours()));
  sigpipe_state seen;
  failing.then = [&seen] { seen = sigpipe_state::now(); };
  b.start(failing);
  b.start(working);
  REQUIRE(b.until([&] { return failing.times_told == 1 && working.times_told == 1; }));
  CHECK(failing.told == -EPIPE);
  CHECK(working.told == 1);
  CHECK_FALSE(seen.is_blocked);
  CHECK_FALSE(seen.is_pending);
}

TEST_CASE("a full pipe or socket says EAGAIN, and that is the result where it is asked for") {
  for (const op_route route : every_route) {
    bench b;
    const temp_dir dir;
    const kernel::unique_fd from(dir.open("from"));
    REQUIRE(::ftruncate(from.get(), 64 << 20) == 0);
    const stream_pair pair = stream_pair::tcp();
    REQUIRE(kernel::set_mode(pair.ours(), kernel::socket_mode::non_blocking).has_value());
    op_request sending = moving(op_kind::sendfile, {from.get(), 0}, {pair.ours()}, 64 << 20, route);
    if (route == op_route::automatic) sending.route = op_route::worker;
    sending.accept_again = true;
    std::int64_t moved = 1;
    for (int i = 0; i < 100 && moved > 0; ++i) moved = b.run(sending);
    CHECK(moved == -EAGAIN);
    CHECK(b.counters.ops.retried.get() == 0);

    const result<kernel::pipe> pipe = kernel::pipe::make(4096);
    REQUIRE(pipe.has_value());
    op_request filling = moving(op_kind::splice, {from.get(), 0}, {pipe->write_end()}, 4096, route);
    filling.flags = SPLICE_F_NONBLOCK;
    filling.accept_again = true;
    CHECK(b.run(filling) == 4096);
    CHECK(b.run(filling) == -EAGAIN);
  }
}

TEST_CASE("a range of a file is copied into another by the kernel, up to the end of the file") {
  bench b;
  const temp_dir dir;
  const kernel::unique_fd from(dir.open("from"));
  const kernel::unique_fd to(dir.open("to"));
  const std::vector<std::byte> written = pattern(42, 0, 9000);
  REQUIRE(::write(from.get(), written.data(), written.size()) == 9000);
  const auto copying = [&](std::uint64_t offset, std::uint64_t length) {
    return moving(op_kind::copy_file_range, {from.get(), offset}, {to.get(), 3}, length);
  };
  const std::int64_t copied = b.run(copying(1000, 9000));
  if (copied == -EXDEV || copied == -EOPNOTSUPP || copied == -ENOSYS) return;
  CHECK(copied == 8000);
  std::vector<std::byte> got(8000);
  REQUIRE(::pread(to.get(), got.data(), got.size(), 3) == 8000);
  CHECK(support::is_pattern(got, 42, 1000));
  CHECK(b.run(copying(9000, 1)) == 0);
  CHECK(b.run(moving(op_kind::copy_file_range, {from.get(), 0}, {-1, 0}, 1)) == -EBADF);
}

TEST_CASE("a fixed write without registered buffers is refused or whole") {
  bench b;
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  std::vector<std::byte> bytes = pattern(15, 0, 4096);
  const std::int64_t wrote =
      b.run(request_of(op_kind::write_fixed, file.get(), bytes.data(), bytes.size()));
  const bool either = wrote == 4096 || wrote == -EFAULT;
  CHECK(either);
  CHECK(dir.read("file").size() == (wrote > 0 ? 4096 : 0));
}

TEST_CASE("many more operations than the queues hold are all carried out") {
  bench b({.ring_entries = 8, .completion_entries = 16});
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  constexpr std::size_t count = 600;
  constexpr std::size_t each = 64;
  std::vector<std::byte> bytes = pattern(16, 0, count * each);
  std::vector<std::byte> back(count * each);
  std::deque<told_op> writes;
  std::deque<told_op> reads;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = (i * 7 % count) * each;
    told_op& w =
        writes.emplace_back(request_of(op_kind::write, file.get(), bytes.data() + at, each, at));
    told_op& r =
        reads.emplace_back(request_of(op_kind::read, file.get(), back.data() + at, each, at));
    w.then = [&b, &r] { b.start(r); };
    b.start(w);
  }
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  for (const told_op& o : reads) CHECK(o.told == each);
  CHECK(support::is_pattern(back, 16, 0));
}

TEST_CASE("many waiting sockets are served, more than the submission queue holds") {
  bench b({.ring_entries = 8, .completion_entries = 256});
  constexpr std::size_t count = 150;
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::vector<std::byte> got(count);
  for (std::size_t i = 0; i < count; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(b.own(pairs[i].ours()), std::span(got).subspan(i, 1)));
    b.start(ops[i]);
  }
  b.idle_turns();
  for (std::size_t i = count; i > 0; --i) {
    REQUIRE(support::send_all(pairs[i - 1].theirs(), pattern(17, i - 1, 1)));
  }
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  CHECK(support::is_pattern(got, 17, 0));
}

TEST_CASE("a cancelled scope of many waiting ops is drained") {
  bench b({.ring_entries = 8, .completion_entries = 256});
  scope s;
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::vector<std::byte> got(100);
  for (std::size_t i = 0; i < 100; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(b.own(pairs[i].ours()), std::span(got).subspan(i, 1)));
    b.start(ops[i], &s);
  }
  b.idle_turns();
  s.cancel(b.on());
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  for (const told_op& o : ops) CHECK(o.told == -ECANCELED);
}

// ---- workers

std::int64_t id_of_thread(void* context) {
  *static_cast<std::thread::id*>(context) = std::this_thread::get_id();
  return 7;
}

TEST_CASE("a call runs on another thread and gives its result") {
  bench b;
  std::thread::id id;
  CHECK(b.run(call_of(id_of_thread, &id)) == 7);
  CHECK(id != std::thread::id());
  CHECK(id != std::this_thread::get_id());
}

TEST_CASE("worker threads are as many as the work needs and never more than allowed") {
  bench b({.threads = 3});
  CHECK(b.counters.pool.threads.get() == 0);
  std::thread::id id;
  for (int i = 0; i < 20; ++i) b.run(call_of(id_of_thread, &id));
  gate g;
  std::deque<told_op> ops;
  for (int i = 0; i < 10; ++i) {
    ops.emplace_back(call_of(gate::pass, &g));
    b.start(ops.back());
  }
  b.turn();
  g.wait_for_inside(3);
  CHECK(b.counters.pool.threads.get() == 3);
  g.let_go();
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  CHECK(g.inside_max == 3);
  CHECK(g.passed == 10);
  CHECK(b.counters.pool.tasks.get() == 30);
}

TEST_CASE("a queued call is cancelled at once, one that runs keeps its result") {
  bench b({.threads = 1});
  gate g;
  told_op running(call_of(gate::pass, &g));
  told_op queued(call_of(gate::pass, &g));
  told_op last(call_of(gate::pass, &g));
  b.start(running);
  b.turn();
  g.wait_for_inside(1);
  b.start(queued);
  b.start(last);
  b.turn();
  b.on().cancel(queued, ECANCELED);
  b.on().cancel(running, ECANCELED);
  REQUIRE(b.until([&] { return queued.times_told == 1; }));
  CHECK(queued.told == -ECANCELED);
  b.idle_turns();
  CHECK(running.times_told == 0);
  CHECK(running.state() == op_state::cancelling);
  g.let_go();
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  CHECK(running.told == 1);
  CHECK(last.told == 2);
  CHECK(g.passed == 2);
}

TEST_CASE("the answers of many workers are all collected") {
  bench b({.threads = 4});
  constexpr int count = 2000;
  static std::atomic<int> ran;
  ran = 0;
  std::deque<told_op> ops;
  for (int i = 0; i < count; ++i) {
    ops.emplace_back(call_of([](void*) -> std::int64_t { return ++ran; }, nullptr));
    b.start(ops.back());
    if (i % 16 == 0) b.turn();
  }
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  CHECK(ran == count);
}

// ---- waking

TEST_CASE("another thread ends a wait without limit, every time") {
  bench b;
  int ran = 0;
  for (int round = 0; round < 50; ++round) {
    const std::int64_t before = kernel::now_ns();
    std::jthread poster([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
      b.on().post([&] { ++ran; });
    });
    while (ran == round) b.turn(20'000'000'000);
    REQUIRE(kernel::now_ns() - before < 10'000'000'000);
  }
}

TEST_CASE("an answer that is there at once is not waited for") {
  bench b;
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  const std::vector<std::byte> bytes = pattern(20, 0, 10);
  std::vector<std::byte> got(10);
  const std::int64_t before = kernel::now_ns();
  for (int round = 0; round < 5; ++round) {
    told_op sending(send_of(fd, bytes));
    told_op waiting(recv_into(fd, got));
    b.start(sending);
    b.start(waiting);
    while (sending.times_told == 0) b.turn(20'000'000'000);
    b.on().cancel(waiting, ECANCELED);
    while (waiting.times_told == 0) b.turn(20'000'000'000);
  }
  CHECK(kernel::now_ns() - before < 15'000'000'000);
}

TEST_CASE("a wait of given length lasts so long, unless it is interrupted") {
  bench b;
  b.turn();
  std::int64_t longest = 0;
  for (int i = 0; i < 20 && longest < 5'000'000; ++i) {
    const std::int64_t before = kernel::now_ns();
    b.turn(5'000'000);
    longest = std::max(longest, kernel::now_ns() - before);
  }
  CHECK(longest >= 5'000'000);
  CHECK(longest < 5'000'000'000);
}

// A host that sleeps on the descriptor with epoll, as real ones do, and turns when it is told to.
class host {
 public:
  explicit host(bench& b) : b_(b), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    b.turn();
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, b.carrier().poll_fd(), &wanted);
    b.turn();
    settle();
  }
  // Sleeps until the descriptor is readable; false when it is not within the limit.
  bool sleep(int limit_ms = 5000) {
    epoll_event event{};
    int ready = -1;
    do {
      ready = ::epoll_wait(epoll_.get(), &event, 1, limit_ms);
    } while (ready < 0 && errno == EINTR);  // by a ring that is being taken down
    return ready == 1;
  }
  // As a host of engine::process: turns while the loop says so or the descriptor is readable. It
  // may be so once too often, for the kernel signals late, but not for ever.
  void settle() {
    int turns = 0;
    while (turns < 100 && (b_.on().has_work() || sleep(2))) {
      b_.turn();
      ++turns;
    }
    CHECK(turns < 100);
  }

 private:
  bench& b_;
  kernel::unique_fd epoll_;
};

TEST_CASE("poll_fd is quiet at rest and readable when a socket has something") {
  bench b;
  host h(b);
  const stream_pair pair = stream_pair::tcp();
  const int fd = b.own(pair.ours());
  std::vector<std::byte> got(10);
  for (int round = 0; round < 5; ++round) {
    told_op o(recv_into(fd, got, MSG_WAITALL));
    b.start(o);
    b.turn();
    h.settle();
    REQUIRE(support::send_all(pair.theirs(), pattern(18, 0, 10)));
    REQUIRE(h.sleep());
    h.settle();
    CHECK(o.times_told == 1);
  }
}

TEST_CASE("poll_fd is readable for every post of another thread, one after the other") {
  bench b;
  host h(b);
  for (int round = 1; round <= 10; ++round) {
    bool ran = false;
    std::jthread([&] { b.on().post([&] { ran = true; }); }).join();
    REQUIRE(h.sleep());
    h.settle();
    CHECK(ran);
  }
}

TEST_CASE("poll_fd is readable when a worker has answered") {
  bench b;
  host h(b);
  for (int round = 0; round < 10; ++round) {
    gate g;
    told_op o(call_of(gate::pass, &g));
    b.start(o);
    b.turn();
    g.wait_for_inside(1);
    h.settle();
    g.let_go();
    REQUIRE(h.sleep());
    h.settle();
    CHECK(o.times_told == 1);
  }
}

TEST_CASE("poll_fd is readable until all of many answers have been taken") {
  bench b;
  host h(b);
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::vector<std::byte> got(100);
  for (std::size_t i = 0; i < 100; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(b.own(pairs[i].ours()), std::span(got).subspan(i, 1)));
    b.start(ops[i]);
  }
  b.turn();
  h.settle();
  for (std::size_t i = 0; i < 100; ++i) {
    REQUIRE(support::send_all(pairs[i].theirs(), pattern(19, i, 1)));
  }
  while (b.on().ops_under_way() > 0) {
    REQUIRE(h.sleep());
    for (int i = 0; i < 100 && b.on().has_work(); ++i) b.turn();
    b.turn();
  }
  CHECK(support::is_pattern(got, 19, 0));
  h.settle();
}

}  // namespace suite
