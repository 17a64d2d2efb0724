#include "transfer/pipe_run.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <span>
#include <thread>
#include <vector>

#include "kernel/sigpipe.hpp"
#include "ops/table.hpp"
#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using support::stream_pair;
using stop = pipe_run::stop;

constexpr std::size_t pipe_bytes = 64 * 1024;

// What a giver sends to `in` goes through a pipe to `out`, whose other end takes it.
struct plumbing {
  stream_pair in = stream_pair::local();
  stream_pair out = stream_pair::local();
  std::array<int, 2> pipe{-1, -1};
  pipe_run run;

  plumbing() {
    REQUIRE(::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    for (const int fd : {in.ours(), out.ours()}) REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    run = {.from = in.ours(),
           .to = out.ours(),
           .pipe_in = pipe[1],
           .pipe_out = pipe[0],
           .pipe_bytes = pipe_bytes,
           .enough = std::uint64_t{1} << 20};
  }
  plumbing(const plumbing&) = delete;
  plumbing& operator=(const plumbing&) = delete;
  ~plumbing() {
    for (const int fd : pipe) ::close(fd);
  }

  void give(std::span<const std::byte> bytes) const {
    REQUIRE(::send(in.theirs(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] std::vector<std::byte> taken() const {
    std::vector<std::byte> all(1 << 20);
    const ssize_t got = ::recv(out.theirs(), all.data(), all.size(), MSG_DONTWAIT);
    all.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return all;
  }
  // As the loop does it.
  std::int64_t go() {
    run.moved = run.filled = run.calls = run.short_calls = 0;
    run.stopped = stop::not_begun;
    run.failure = 0;
    const op_request request = request_of(run, op_route::loop_thread);
    CHECK(may_raise_sigpipe(request));
    CHECK(carrier_of(request) == carrier::inline_call);
    kernel::sigpipe_guard guard;
    const std::int64_t told = row_of(request.kind).perform(request);
    if (told == -EPIPE) guard.may_have_raised();
    return told;
  }
};

std::vector<std::byte> some(std::size_t bytes) { return support::pattern(7, 0, bytes); }

TEST_CASE("a run moves what is there and says that the source has no more for now") {
  plumbing p;
  const std::vector<std::byte> sent = some(50'000);
  p.give(sent);
  CHECK(p.go() == 50'000);
  CHECK(p.run.stopped == stop::at_source);
  CHECK(p.run.failure == EAGAIN);
  CHECK(p.run.filled == 50'000);
  CHECK(p.run.held == 0);
  CHECK(p.taken() == sent);
  CHECK(p.go() == 0);
  CHECK(p.run.calls == 1);
  CHECK(p.run.failure == EAGAIN);
}

TEST_CASE("the end of the source is told once all of it is with the sink") {
  plumbing p;
  const std::vector<std::byte> sent = some(1'000);
  p.give(sent);
  p.in.close_theirs();
  CHECK(p.go() == 1'000);
  CHECK(p.run.stopped == stop::at_source);
  CHECK(p.run.failure == 0);
  CHECK(p.taken() == sent);
}

TEST_CASE("a sink that is full leaves the rest in the pipe, and the next run begins with it") {
  plumbing p;
  std::vector<std::byte> given;
  std::vector<std::byte> arrived;
  const int small = 4096;
  REQUIRE(::setsockopt(p.out.ours(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
  const std::vector<std::byte> part = some(30'000);
  while (p.run.stopped != stop::at_sink) {
    p.give(part);
    given.insert(given.end(), part.begin(), part.end());
    CHECK(p.go() >= 0);
    REQUIRE(given.size() < 10'000'000);
  }
  CHECK(p.run.failure == EAGAIN);
  CHECK(p.run.held > 0);
  const std::uint64_t held = p.run.held;
  while (arrived.size() < given.size()) {
    const std::vector<std::byte> more = p.taken();
    REQUIRE(!more.empty());
    arrived.insert(arrived.end(), more.begin(), more.end());
    CHECK(p.go() >= 0);
  }
  CHECK(held <= pipe_bytes);
  CHECK(arrived == given);
}

TEST_CASE("it stops with an empty pipe when it has moved enough, or is not to go on") {
  plumbing p;
  p.run.pipe_bytes = 4096;
  p.run.enough = 10'000;
  p.give(some(60'000));
  CHECK(p.go() == 3 * 4096);
  CHECK(p.run.stopped == stop::enough);
  CHECK(p.run.held == 0);
  p.run.goes_on = false;
  CHECK(p.go() == 4096);
  CHECK(p.run.stopped == stop::enough);
}

TEST_CASE("a sink that has gone is an error and no signal") {
  plumbing p;
  p.give(some(1'000));
  p.out.close_theirs();
  CHECK(p.go() == -EPIPE);  // the signal would end this process
  CHECK(p.run.stopped == stop::at_sink);
  CHECK(p.run.failure == EPIPE);
  CHECK(p.run.moved == 0);
  CHECK(p.run.held == 1'000);
}

// Whoever splices may be interrupted by the peer's end at any call, and in any.
TEST_CASE("a sink that goes while a run goes on kills nobody, and what it took is counted") {
  for (int i = 0; i < 300; ++i) {
    plumbing p;
    p.run.pipe_bytes = 4096;
    const std::vector<std::byte> sent = some(100'000);
    p.give(sent);
    std::size_t arrived = 0;
    std::jthread taker([&p, &arrived, i] {
      std::vector<std::byte> piece(static_cast<std::size_t>(i) * 300 + 1);
      const ssize_t got = ::recv(p.out.theirs(), piece.data(), piece.size(), 0);
      arrived = got < 0 ? 0 : static_cast<std::size_t>(got);
      p.out.close_theirs();
    });
    std::int64_t told = 0;
    while (told >= 0 && p.run.stopped != stop::at_source) told = p.go();
    taker.join();
    CHECK((told >= 0 || told == -EPIPE));
    CHECK(p.run.held + p.run.moved <= sent.size());
  }
}

TEST_CASE("into a file it goes on at the file's offset, and takes no more than is wanted") {
  plumbing p;
  const support::temp_dir folder;
  const int fd = ::open((folder.path() / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::vector<std::byte> sent = some(50'000);
  p.give(sent);
  p.run.to = fd;
  p.run.to_offset = 1'000;
  p.run.pipe_bytes = 4096;
  p.run.fill_max = 30'001;
  CHECK(p.go() == 30'001);
  CHECK(p.run.stopped == stop::enough);
  std::vector<std::byte> stored(60'000);
  const ssize_t bytes = ::pread(fd, stored.data(), stored.size(), 0);
  CHECK(bytes == 31'001);
  CHECK(std::equal(sent.begin(), sent.begin() + 30'001, stored.begin() + 1'000));
  p.run.to = p.out.ours();  // the rest is the source's still
  p.run.to_offset = op_no_offset;
  p.run.fill_max = std::numeric_limits<std::uint64_t>::max();
  CHECK(p.go() == 19'999);
  ::close(fd);
}

TEST_CASE("what knows no splice says so before anything has moved") {
  plumbing p;
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  p.run.from = fd;
  CHECK(p.go() == 0);
  CHECK(p.run.stopped == stop::at_source);
  CHECK(p.run.failure == EINVAL);
  ::close(fd);
}

}  // namespace
