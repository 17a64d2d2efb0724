#include "ops/table.hpp"

#include <doctest/doctest.h>
#include <liburing.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

#include "support/seeded_data.hpp"
#include "support/stream_pair.hpp"
#include "support/temp_dir.hpp"
#include "support/told_op.hpp"

namespace {

using namespace sluice;
using support::request_of;

bool takes_vectors(op_kind kind) {
  return kind == op_kind::readv || kind == op_kind::writev || kind == op_kind::writev_fixed;
}

op_kind kind_at(std::size_t index) { return static_cast<op_kind>(index); }

TEST_CASE("every kind has a row of its own name") {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(kind_at(i));
    CHECK(row.kind == kind_at(i));
    CHECK(names.insert(row.name).second);
    CAPTURE(row.name);
    CHECK((row.opcode >= 0) == (row.fill_sqe != nullptr));
    CHECK((row.by == carrier::loop) == (row.perform == nullptr));
  }
}

TEST_CASE("what stands in for an opcode takes the same request and is itself in every ring") {
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(kind_at(i));
    if (row.stand_in == op_kind::park) continue;
    CAPTURE(row.name);
    const op_row& other = row_of(row.stand_in);
    CHECK(other.opcode >= 0);
    const bool same_calls = other.perform == row.perform;
    CHECK(same_calls);
    CHECK(other.when_short == row.when_short);
    CHECK(other.stand_in == op_kind::park);
  }
  CHECK(row_of(op_kind::writev_fixed).stand_in == op_kind::writev);
}

TEST_CASE("a row fills the entry of its own operation and descriptor") {
  std::array<std::byte, 16> bytes{};
  iovec one{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &one;
  message.msg_iovlen = 1;
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(kind_at(i));
    if (row.fill_sqe == nullptr) continue;
    CAPTURE(row.name);
    op_request r = request_of(kind_at(i), 77, bytes.data(), 1);
    r.path = r.path2 = "name";
    if (takes_vectors(row.kind)) r.data = &one;
    if (row.kind == op_kind::recvmsg || row.kind == op_kind::sendmsg) r.data = &message;
    io_uring_sqe sqe;
    std::memset(&sqe, 0xff, sizeof sqe);
    row.fill_sqe(r, sqe);
    CHECK(sqe.opcode == row.opcode);
    CHECK(sqe.fd == 77);
    // No link, no drain, no skipped completion.
    CHECK(sqe.flags == (row.kind == op_kind::recv_multishot ? IOSQE_BUFFER_SELECT : 0));
  }
}

TEST_CASE("a longer request is clipped to what one call may move") {
  const std::uint64_t huge = op_bytes_max + 5;
  for (const op_kind kind : {op_kind::recv, op_kind::send, op_kind::read, op_kind::write,
                             op_kind::read_fixed, op_kind::write_fixed}) {
    const op_row& row = row_of(kind);
    CAPTURE(row.name);
    op_request r = request_of(kind, 3);
    r.length = huge;
    io_uring_sqe sqe{};
    row.fill_sqe(r, sqe);
    CHECK(sqe.len == op_bytes_max);
    r.length = 4096;
    row.fill_sqe(r, sqe);
    CHECK(sqe.len == 4096);
  }
  // ... and what it leaves is asked for by another round.
  const op_request writing = request_of(op_kind::write, 3, nullptr, huge);
  CHECK(is_short(writing, op_bytes_max));
  CHECK_FALSE(is_short(writing, huge));
}

TEST_CASE("which results are short follows from the row and its flags") {
  struct row {
    op_kind kind;
    std::uint32_t flags;
    bool resumed;
  };
  const std::array rows{
      row{op_kind::recv, 0, false},
      row{op_kind::recv, MSG_WAITALL, true},
      row{op_kind::recvmsg, 0, false},
      row{op_kind::recvmsg, MSG_WAITALL, true},
      row{op_kind::send, 0, true},
      row{op_kind::send, MSG_WAITALL, true},
      row{op_kind::sendmsg, 0, true},
      row{op_kind::read, 0, true},
      row{op_kind::write, 0, true},
      row{op_kind::readv, 0, true},
      row{op_kind::writev, 0, true},
      row{op_kind::read_fixed, 0, true},
      row{op_kind::write_fixed, 0, true},
      row{op_kind::accept, 0, false},
      row{op_kind::statx, 0, false},
      row{op_kind::fallocate, 0, false},
      row{op_kind::ftruncate, 0, false},
      row{op_kind::call, 0, false},
      row{op_kind::poll, 0, false},
      row{op_kind::connect, 0, false},
      row{op_kind::syncfs, 0, false},
      row{op_kind::writev_fixed, 0, true},
      row{op_kind::recv_multishot, 0, false},
  };
  std::byte byte{};
  iovec vector{&byte, 100};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  for (const row& wanted : rows) {
    CAPTURE(row_of(wanted.kind).name);
    CAPTURE(wanted.flags);
    op_request r = request_of(wanted.kind, 3, &byte, 100, 0, wanted.flags);
    if (wanted.kind == op_kind::recvmsg || wanted.kind == op_kind::sendmsg) r.data = &message;
    if (takes_vectors(wanted.kind)) {
      r.data = &vector;
      r.length = 1;
    }
    CHECK(is_short(r, 99) == wanted.resumed);
    CHECK(is_short(r, 0) == wanted.resumed);
    CHECK_FALSE(is_short(r, 100));
    r.accept_short = true;
    CHECK_FALSE(is_short(r, 99));
  }
}

TEST_CASE("a buffer is advanced by pointer, length and offset") {
  std::array<std::byte, 100> bytes{};
  op_request r = request_of(op_kind::write, 3, bytes.data(), 100, 4096);
  advance(r, 30);
  CHECK(r.data == bytes.data() + 30);
  CHECK(r.length == 70);
  CHECK(r.offset == 4126);
  CHECK(is_short(r, 69));
  CHECK_FALSE(is_short(r, 70));
}

TEST_CASE("an iovec array drops what is done and cuts the first that is not: 150 of 100 + 200") {
  std::array<std::byte, 300> bytes{};
  for (const op_kind kind : {op_kind::writev, op_kind::writev_fixed}) {
    std::array<iovec, 2> parts{iovec{bytes.data(), 100}, iovec{bytes.data() + 100, 200}};
    op_request r = request_of(kind, 3, parts.data(), 2, 1000);
    advance(r, 150);
    CHECK(r.data == &parts[1]);
    CHECK(r.length == 1);
    CHECK(parts[1].iov_base == bytes.data() + 150);
    CHECK(parts[1].iov_len == 150);
    CHECK(r.offset == 1150);
    CHECK_FALSE(is_short(r, 150));
    CHECK(is_short(r, 149));
  }
}

TEST_CASE("an iovec array advanced to the end of a vector begins with the next") {
  std::array<std::byte, 30> bytes{};
  std::array<iovec, 4> parts{iovec{bytes.data(), 10}, iovec{bytes.data() + 10, 0},
                             iovec{bytes.data() + 10, 10}, iovec{bytes.data() + 20, 10}};
  op_request r = request_of(op_kind::readv, 3, parts.data(), 4);
  advance(r, 10);
  CHECK(r.data == &parts[2]);  // the empty one is done as well
  CHECK(r.length == 2);
  CHECK(parts[2].iov_len == 10);
  advance(r, 20);
  CHECK(r.length == 0);
  CHECK_FALSE(is_short(r, 0));
}

TEST_CASE("a message is advanced in place, its iovecs with it") {
  std::array<std::byte, 60> bytes{};
  std::array<iovec, 3> parts{iovec{bytes.data(), 10}, iovec{bytes.data() + 10, 20},
                             iovec{bytes.data() + 30, 30}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  op_request r = request_of(op_kind::sendmsg, 3, &message, 0);
  CHECK(is_short(r, 59));
  advance(r, 25);
  CHECK(message.msg_iov == &parts[1]);
  CHECK(message.msg_iovlen == 2);
  CHECK(parts[1].iov_base == bytes.data() + 25);
  CHECK(parts[1].iov_len == 5);
  CHECK_FALSE(is_short(r, 35));
  CHECK(is_short(r, 34));
}

TEST_CASE("advancing in any steps visits every byte once: a random walk") {
  support::seeded_random random(20);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> bytes(200);
    std::vector<iovec> parts;
    std::size_t used = 0;
    while (parts.size() < 6) {
      const std::size_t length = random.below(40);
      parts.push_back({bytes.data() + used, length});
      used += length;
    }
    op_request r = request_of(op_kind::writev, 3, parts.data(), parts.size());
    std::size_t at = 0;
    while (at < used) {
      const auto* first = static_cast<iovec*>(r.data);
      while (first->iov_len == 0) ++first;
      REQUIRE(first->iov_base == bytes.data() + at);
      const std::size_t step = 1 + random.below(used - at);
      REQUIRE(is_short(r, step) == (at + step < used));
      advance(r, step);
      at += step;
      REQUIRE(r.offset == at);
    }
  }
}

std::int64_t perform(const op_request& r) { return row_of(r.kind).perform(r); }

TEST_CASE("performing a socket operation never waits") {
  const support::stream_pair pair = support::stream_pair::tcp();
  std::array<std::byte, 16> bytes{};
  CHECK(perform(request_of(op_kind::recv, pair.ours(), bytes.data(), 16, 0, MSG_WAITALL)) ==
        -EAGAIN);
  CHECK(perform(request_of(op_kind::poll, pair.ours(), nullptr, 0, 0, 1)) == -EAGAIN);
  REQUIRE(support::send_all(pair.theirs(), std::span(bytes).first(3)));
  while (perform(request_of(op_kind::poll, pair.ours(), nullptr, 0, 0, 1)) == -EAGAIN) {
  }
  CHECK(perform(request_of(op_kind::recv, pair.ours(), bytes.data(), 16, 0, MSG_WAITALL)) == 3);
}

TEST_CASE("a call gives its own result") {
  op_request r = request_of(op_kind::call);
  int number = 41;
  r.data = &number;
  r.function = [](void* context) -> std::int64_t { return ++*static_cast<int*>(context); };
  CHECK(perform(r) == 42);
}

TEST_CASE("polling a descriptor that is none is EBADF, as the ring says it") {
  CHECK(perform(request_of(op_kind::poll, -1, nullptr, 0, 0, 1)) == -EBADF);
  CHECK(perform(request_of(op_kind::poll, 1'000'000, nullptr, 0, 0, 1)) == -EBADF);
}

TEST_CASE("a kind with an opcode fills an entry, and all but the loop's own can be performed") {
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(static_cast<op_kind>(i));
    CAPTURE(row.name);
    CHECK((row.opcode >= 0) == (row.fill_sqe != nullptr));
    CHECK((row.by == carrier::loop) == (row.perform == nullptr));
  }
}

TEST_CASE("a route says who performs a request, else its row does") {
  op_request r = request_of(op_kind::splice, 3);
  CHECK(carrier_of(r) == carrier::worker);
  r.route = op_route::ring_thread;
  CHECK(carrier_of(r) == carrier::worker);
  r.route = op_route::loop_thread;
  CHECK(carrier_of(r) == carrier::inline_call);
  r.route = op_route::worker;
  CHECK(carrier_of(r) == carrier::worker);
  CHECK(carrier_of(request_of(op_kind::recv, 3)) == carrier::readable);
}

}  // namespace
