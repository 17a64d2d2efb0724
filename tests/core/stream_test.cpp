#include "sluice/stream.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/adopted_stream.hpp"
#include "support/engine_fixture.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;
using support::adopt;
using support::backends;
using support::engine_fixture;
using support::pattern;
using support::stream_pair;

task<result<std::size_t>> recv(stream& s, std::span<std::byte> into,
                               recv_mode mode = recv_mode::some,
                               std::chrono::nanoseconds timeout = {}) {
  co_return co_await s.recv(into, mode, timeout);
}
task<result<std::size_t>> send(stream& s, std::span<const std::byte> bytes) {
  co_return co_await s.send(bytes);
}
task<result<std::size_t>> wait_readable(stream& s, std::chrono::nanoseconds timeout) {
  co_return co_await s.wait_readable(timeout);
}

TEST_CASE("what is no stream socket is refused and stays the caller's") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    const support::temp_dir dir;
    const int file = dir.open("file");
    CHECK(stream::adopt(*f, file).error().code == ENOTSOCK);
    CHECK(::fcntl(file, F_GETFD) >= 0);
    ::close(file);
    const int datagram = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(stream::adopt(*f, datagram).error().code == EOPNOTSUPP);
    CHECK(::fcntl(datagram, F_GETFD) >= 0);
    ::close(datagram);
    CHECK(stream::adopt(*f, -1).error().code == EBADF);
  }
}

TEST_CASE("an adopted socket gets its backend's mode and sends small parts at once") {
  for (const std::string& backend : backends()) {
    for (const bool non_blocking : {false, true}) {
      engine_fixture f(backend);
      stream_pair pair = stream_pair::tcp();
      if (non_blocking) ::fcntl(pair.ours(), F_SETFL, O_NONBLOCK);
      const stream s = adopt(*f, pair.take_ours());
      CHECK(((::fcntl(s.fd(), F_GETFL) & O_NONBLOCK) != 0) == (backend == "pool"));
      int value = 0;
      socklen_t bytes = sizeof value;
      ::getsockopt(s.fd(), IPPROTO_TCP, TCP_NODELAY, &value, &bytes);
      CHECK(value != 0);
    }
  }
}

TEST_CASE("some is what has come, full is all of it or what came before the end") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    std::vector<std::byte> into(100);
    REQUIRE(support::send_all(pair.theirs(), pattern(1, 0, 30)));
    CHECK(f.run(recv(s, into)) == 30U);
    std::jthread peer([&] {
      for (std::uint64_t sent = 30; sent < 160; sent += 10) {
        support::send_all(pair.theirs(), pattern(1, sent, 10));
        std::this_thread::sleep_for(1ms);
      }
      ::shutdown(pair.theirs(), SHUT_WR);
    });
    CHECK(f.run(recv(s, into, recv_mode::full)) == 100U);
    CHECK(support::is_pattern(into, 1, 30));
    CHECK(f.run(recv(s, into, recv_mode::full)) == 30U);
    CHECK(support::is_pattern(std::span(into).first(30), 1, 130));
    CHECK(f.run(recv(s, into)) == 0U);
    CHECK(f.run(recv(s, into, recv_mode::full)) == 0U);
  }
}

TEST_CASE("a recv that nobody answers ends with ETIMEDOUT, and the stream goes on") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    std::vector<std::byte> into(10);
    CHECK(f.run(recv(s, into, recv_mode::some, 2ms)).error().code == ETIMEDOUT);
    REQUIRE(support::send_all(pair.theirs(), pattern(1, 0, 10)));
    CHECK(f.run(recv(s, into, recv_mode::full, 10s)) == 10U);
  }
}

TEST_CASE("a send takes everything, however large, while the peer reads slowly") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    constexpr std::size_t bytes = 6U << 20U;
    std::vector<std::byte> seen(bytes);
    std::jthread peer([&] {
      std::this_thread::sleep_for(5ms);
      support::recv_all(pair.theirs(), seen);
    });
    CHECK(f.run(send(s, pattern(2, 0, bytes))) == bytes);
    peer.join();
    CHECK(support::is_pattern(seen, 2, 0));
  }
}

task<result<std::size_t>> send_message(stream& s, msghdr& message) {
  co_return co_await s.send(message);
}

TEST_CASE("a message is sent whole from several places, larger than any buffer") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    constexpr std::size_t bytes = 6U << 20U;
    std::vector<std::byte> all = pattern(3, 0, bytes);
    std::array<iovec, 3> parts{
        iovec{all.data(), 100}, {all.data() + 100, bytes - 200}, {all.data() + bytes - 100, 100}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    std::vector<std::byte> seen(bytes);
    std::jthread peer([&] { support::recv_all(pair.theirs(), seen); });
    CHECK(f.run(send_message(s, message)) == bytes);
    peer.join();
    CHECK(support::is_pattern(seen, 3, 0));
  }
}

TEST_CASE("sending to a peer that is gone is an error and no signal") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    for (const bool tcp : {true, false}) {
      stream_pair pair = tcp ? stream_pair::tcp() : stream_pair::local();
      stream s = adopt(*f, pair.take_ours());
      if (tcp) support::reset_at_close(pair.theirs());
      pair.close_theirs();
      const auto first = f.run(send(s, pattern(0, 0, 10)));
      const auto second = f.run(send(s, pattern(0, 0, 10)));  // SIGPIPE would end us here
      CHECK_FALSE(first.has_value());
      CHECK(second.error().code == EPIPE);
    }
  }
}

TEST_CASE("waiting until readable takes nothing, tells the end, and may time out") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    CHECK(f.run(wait_readable(s, 2ms)).error().code == ETIMEDOUT);
    REQUIRE(support::send_all(pair.theirs(), pattern(4, 0, 10)));
    CHECK((*f.run(wait_readable(s, 10s)) & POLLIN) != 0);
    std::vector<std::byte> into(10);
    CHECK(f.run(recv(s, into)) == 10U);
    ::shutdown(pair.theirs(), SHUT_WR);
    CHECK((*f.run(wait_readable(s, 10s)) & POLLRDHUP) != 0);
  }
}

TEST_CASE("a shutdown ends the peer's stream, and twice is no harm to ours") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    REQUIRE(s.shutdown(SHUT_WR).has_value());
    std::array<std::byte, 4> into{};
    CHECK(support::recv_all(pair.theirs(), into) == 0);
    REQUIRE(support::send_all(pair.theirs(), into));
    CHECK(f.run(recv(s, into)) == 4U);  // the other direction still works
    s.close();
    CHECK(s.shutdown(SHUT_WR).error().code == EBADF);
    CHECK(f.run(recv(s, into)).error().code == EBADF);
  }
}

TEST_CASE("a shutdown of receiving ends a recv that waits") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    stream_pair pair = stream_pair::tcp();
    stream s = adopt(*f, pair.take_ours());
    std::array<std::byte, 4> into{};
    std::optional<result<std::size_t>> got;
    f->start(recv(s, into), [&](result<std::size_t> r) { got = r; });
    f->run_once(1ms);
    REQUIRE(s.shutdown(SHUT_RD).has_value());
    f->run();
    CHECK(*got == 0U);
  }
}

TEST_CASE("a stream is closed by its last owner") {
  engine_fixture f("pool");
  stream_pair pair = stream_pair::tcp();
  const int number = pair.ours();
  stream first = adopt(*f, pair.take_ours());
  {
    stream second(std::move(first));
    CHECK_FALSE(first);
    CHECK(second.fd() == number);
    stream third;
    CHECK_FALSE(third);
    third = std::move(second);
    stream& itself = third;
    third = std::move(itself);
    CHECK(third.fd() == number);
    first = std::move(third);
  }
  CHECK(::fcntl(number, F_GETFD) >= 0);
  first.close();
  first.close();
  CHECK(::fcntl(number, F_GETFD) < 0);
}

task<result<stream>> accept_one(listener& l, std::chrono::nanoseconds timeout = {}) {
  co_return co_await l.accept(timeout);
}

task<void> greet(engine& e, listener& l, std::size_t clients) {
  for (std::size_t i = 0; i < clients; ++i) {
    result<stream> peer = co_await l.accept();
    REQUIRE(peer.has_value());
    const std::vector<std::byte> greeting = pattern(5, 0, 100);
    CHECK(co_await peer->send(greeting) == 100U);
    (void)e;
  }
}

task<void> be_greeted(engine& e, std::string address, std::size_t* greeted) {
  result<stream> server = co_await stream::connect(e, address);
  REQUIRE(server.has_value());
  std::vector<std::byte> into(100);
  CHECK(co_await server->recv(into, recv_mode::full) == 100U);
  CHECK(support::is_pattern(into, 5, 0));
  CHECK(co_await server->recv(into) == 0U);
  ++*greeted;
}

TEST_CASE("streams connect to a listener of the same engine, many at once") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    result<listener> l = listener::open(*f, "127.0.0.1:0");
    REQUIRE(l.has_value());
    CHECK(l->port() != 0);
    CHECK(l->address() == "127.0.0.1:" + std::to_string(l->port()));
    std::size_t greeted = 0;
    f->spawn(greet(*f, *l, 20));
    for (int i = 0; i < 20; ++i) f->spawn(be_greeted(*f, l->address(), &greeted));
    f->run();
    CHECK(greeted == 20);
    l->close();
  }
}

TEST_CASE("a connect that nobody answers is refused, and a wrong address is EINVAL") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    std::string address;
    {
      const result<listener> gone = listener::open(*f, "127.0.0.1:0");
      address = gone->address();
    }
    CHECK(f.run(stream::connect(*f, address)).error().code == ECONNREFUSED);
    CHECK(f.run(stream::connect(*f, "localhost:80")).error().code == EINVAL);
    CHECK(f.run(stream::connect(*f, "127.0.0.1")).error().code == EINVAL);
  }
}

TEST_CASE("an accept ends with its timeout, with a cancel, and with what its listener is") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    result<listener> l = listener::open(*f, "127.0.0.1:0");
    REQUIRE(l.has_value());
    CHECK(f.run(accept_one(*l, 2ms)).error().code == ETIMEDOUT);
    int error = 0;
    const task_handle waiting =
        f->start(accept_one(*l), [&](result<stream> r) { error = r.error().code; });
    f->run_once(1ms);
    f->cancel(waiting);
    f->run();
    CHECK(error == ECANCELED);
    l->close();
    CHECK(f.run(accept_one(*l)).error().code == EBADF);
  }
}

TEST_CASE("a listener says why it cannot be opened") {
  engine_fixture f("pool");
  CHECK(listener::open(*f, "nowhere").error().code == EINVAL);
  const result<listener> first = listener::open(*f, "127.0.0.1:0");
  CHECK(listener::open(*f, first->address()).error().code == EADDRINUSE);
}

TEST_CASE("an accepted stream has its backend's mode") {
  for (const std::string& backend : backends()) {
    engine_fixture f(backend);
    result<listener> l = listener::open(*f, "127.0.0.1:0");
    f->spawn([](engine& e, std::string address) -> task<void> {
      const auto client = co_await stream::connect(e, address);
      CHECK(client.has_value());
    }(*f, l->address()));
    result<stream> peer = f.run(accept_one(*l));
    REQUIRE(peer.has_value());
    CHECK(((::fcntl(peer->fd(), F_GETFL) & O_NONBLOCK) != 0) == (backend == "pool"));
    CHECK((::fcntl(peer->fd(), F_GETFD) & FD_CLOEXEC) != 0);
    peer->close();
    l->close();
  }
}

}  // namespace
