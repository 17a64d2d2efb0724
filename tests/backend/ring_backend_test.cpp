#include "backend/ring_backend.hpp"

#include "backend/suite.hpp"
#include "support/needs_ring.hpp"

namespace suite {

struct made_ring {
  std::unique_ptr<ring_backend> backend;
  kernel::capability_table found;
};

made_ring make_ring(const settings& wanted, tuning::counters& counters) {
  tuning::ring_knobs ring;
  ring.entries = wanted.ring_entries;
  ring.completion_entries = wanted.completion_entries;
  tuning::pool_knobs pool;
  pool.threads = wanted.threads;
  made_ring made{nullptr, kernel::capability_table(wanted.hidden)};
  result<std::unique_ptr<ring_backend>> backend =
      ring_backend::make(ring, pool, counters, made.found);
  if (!backend) {
    FAIL("no ring: ", describe(backend.error()));
  }
  made.backend = std::move(*backend);
  return made;
}

std::unique_ptr<backend> make_backend(const settings& wanted, tuning::counters& counters) {
  return make_ring(wanted, counters).backend;
}

TEST_CASE("the ring wants its sockets blocking") {
  bench b;
  CHECK(b.carrier().name() == "ring");
  CHECK(b.carrier().socket_mode() == kernel::socket_mode::blocking);
}

TEST_CASE("calls that the loop makes itself do not enter the ring, and keep nobody there waiting") {
  tuning::counters counters;
  if (!make_ring({}, counters).found.present("ring.taskrun_flag")) return;  // always entered
  bench b;
  const std::vector<std::byte> byte = pattern(1, 0, 1);
  const stream_pair busy = stream_pair::tcp();
  const stream_pair quiet = stream_pair::tcp();
  told_op waiting(poll_for(b.own(quiet.ours()), POLLIN));
  b.start(waiting);
  b.idle_turns();
  const auto send_one = [&] {
    op_request sending = send_of(busy.ours(), byte);
    sending.route = op_route::loop_thread;
    sending.accept_short = true;
    return b.run(sending);
  };
  const std::uint64_t before = b.counters.ring.enters.get();
  for (int i = 0; i < 100; ++i) CHECK(send_one() == 1);
  CHECK(b.counters.ring.enters.get() - before <= 2);
  CHECK(waiting.times_told == 0);
  CHECK(support::send_all(quiet.theirs(), byte));
  CHECK(send_one() == 1);
  CHECK(send_one() == 1);
  CHECK(waiting.times_told == 1);
}

TEST_CASE("an operation that the ring lacks is carried by the workers, with the same results") {
  const std::vector<std::string> names{"openat2", "close",     "fsync",  "fallocate", "ftruncate",
                                       "statx",   "renameat2", "linkat", "unlinkat",  "mkdirat",
                                       "read",    "write",     "readv",  "writev"};
  SUBCASE("each alone") {
    for (const std::string& name : names) {
      CAPTURE(name);
      bench b({.hidden = "ring.op." + name});
      const temp_dir dir;
      CHECK(file_operations(b, dir) == expected_file_results());
      CHECK(b.counters.pool.tasks.get() > 0);
    }
  }
  SUBCASE("all together") {
    std::string hidden;
    for (const std::string& name : names) hidden += "ring.op." + name + ",";
    bench b({.hidden = hidden});
    const temp_dir dir;
    CHECK(file_operations(b, dir) == expected_file_results());
    CHECK(b.counters.pool.tasks.get() >= expected_file_results().size());
  }
}

TEST_CASE("a shutdown that the ring lacks is carried out at once") {
  bench b({.hidden = "ring.op.shutdown"});
  const stream_pair pair = stream_pair::tcp();
  std::array<std::byte, 4> bytes{};
  CHECK(b.run(request_of(op_kind::shutdown, pair.ours(), nullptr, 0, 0, SHUT_WR)) == 0);
  CHECK(support::recv_all(pair.theirs(), bytes) == 0);
  CHECK(b.run(request_of(op_kind::shutdown, -1, nullptr, 0, 0, SHUT_WR)) == -EBADF);
}

TEST_CASE("a ring that cannot wait for sockets is refused") {
  for (const char* name : {"accept", "connect", "recv", "send", "recvmsg", "sendmsg", "poll"}) {
    CAPTURE(name);
    const support::all_given_back watch;
    tuning::counters counters;
    kernel::capability_table found("ring.op." + std::string(name));
    const auto made = ring_backend::make({}, {}, counters, found);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == ENOSYS);
    CHECK(std::string_view(made.error().op) == name);
    CHECK_FALSE(found.present("ring.op." + std::string(name)));
    // No ring carries this engine: the table must not say that one does.
    CHECK(found.rows().front().name == "io_uring");
    CHECK_FALSE(found.rows().front().present);
    CHECK(found.rows().front().reason ==
          "a ring without " + std::string(name) + " serves no socket");
  }
}

TEST_CASE("a hidden io_uring is refused without being tried") {
  tuning::counters counters;
  kernel::capability_table found("io_uring");
  const auto made = ring_backend::make({}, {}, counters, found);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().code == EPERM);
  CHECK_FALSE(found.present("io_uring"));
  CHECK(found.rows().size() == 1);
}

TEST_CASE("every operation that a ring can do has its row among the capabilities") {
  tuning::counters counters;
  const made_ring made = make_ring({}, counters);
  CHECK(made.found.present("io_uring"));
  for (std::size_t i = 0; i < op_kind_count; ++i) {
    const op_row& row = row_of(static_cast<op_kind>(i));
    const auto listed = std::ranges::find(made.found.rows(), "ring.op." + std::string(row.name),
                                          &kernel::capability_row::name);
    CAPTURE(row.name);
    CHECK((listed != made.found.rows().end()) == (row.opcode >= 0));
  }
}

TEST_CASE("fixed writes and reads go through registered buffers, any part of them") {
  tuning::counters counters;
  const support::all_given_back watch;
  made_ring made = make_ring({}, counters);
  ring_backend& ring = *made.backend;
  loop on(ring, counters);
  const temp_dir dir;
  const kernel::unique_fd file(dir.open("file"));
  std::vector<std::byte> memory = pattern(31, 0, 8192);
  REQUIRE(ring.open_buffer_table(4) == 0);
  REQUIRE(ring.register_buffer(2, {memory.data(), memory.size()}) == 0);
  const auto run = [&](op_kind kind, std::uint16_t index, std::size_t from, std::size_t bytes) {
    told_op o(request_of(kind, file.get(), memory.data() + from, bytes, 0));
    o.request.buffer_index = index;
    on.start(o, nullptr);
    while (o.times_told == 0) on.turn(100'000'000, 100);
    return o.told;
  };
  CHECK(run(op_kind::write_fixed, 2, 1000, 4096) == 4096);
  std::ranges::fill(memory, std::byte{});
  CHECK(run(op_kind::read_fixed, 2, 100, 4096) == 4096);
  CHECK(support::is_pattern(std::span(memory).subspan(100, 4096), 31, 1000));
  CHECK(run(op_kind::write_fixed, 3, 0, 10) == -EFAULT);  // an empty slot
}

namespace {

// A ring with the capabilities but for those hidden, two neighbouring registered buffers of 8 KiB
// at the indices 1 and 2, and a file.
struct registered {
  explicit registered(const char* hidden) : made(make_ring({.hidden = hidden}, counters)) {
    REQUIRE(made.backend->open_buffer_table(4) == 0);
    for (const unsigned i : {0U, 1U}) {
      REQUIRE(made.backend->register_buffer(i + 1, {memory.data() + i * 8192, 8192}) == 0);
    }
  }
  std::int64_t write(std::vector<iovec> parts, std::uint16_t index, std::uint64_t offset = 0) {
    loop on(*made.backend, counters);
    told_op o(request_of(op_kind::writev_fixed, file.get(), parts.data(), parts.size(), offset));
    o.request.buffer_index = index;
    on.start(o, nullptr);
    while (o.times_told == 0) on.turn(100'000'000, 100);
    return o.told;
  }
  iovec part(std::size_t from, std::size_t bytes) { return {memory.data() + from, bytes}; }

  tuning::counters counters;
  made_ring made;
  std::vector<std::byte> memory = pattern(32, 0, 16384);
  temp_dir dir;
  kernel::unique_fd file{dir.open("file")};
};

}  // namespace

TEST_CASE("vectors of one registered buffer are written, whoever carries them, in their order") {
  struct row {
    const char* hidden;
    bool by_worker;
  };
  for (const row& r : {row{"", false}, row{"ring.op.writev_fixed", false},
                       row{"ring.op.writev_fixed,ring.op.writev", true}}) {
    CAPTURE(r.hidden);
    registered b(r.hidden);
    CHECK(b.write({b.part(5000, 3192), b.part(1, 999), b.part(5000, 10)}, 1, 100) == 4201);
    CHECK((b.counters.pool.tasks.get() > 0) == r.by_worker);
    const std::string content = b.dir.read("file");
    const auto back = std::as_bytes(std::span(content));
    REQUIRE(back.size() == 4301);
    CHECK(support::is_pattern(back.subspan(100, 3192), 32, 5000));
    CHECK(support::is_pattern(back.subspan(3292, 999), 32, 1));
    CHECK(support::is_pattern(back.subspan(4291, 10), 32, 5000));
  }
}

TEST_CASE("a vector outside of the registered buffer is refused where the ring knows the opcode") {
  registered b("");
  if (!b.made.found.present("ring.op.writev_fixed")) {
    MESSAGE("skip: no IORING_OP_WRITEV_FIXED in this kernel");
    return;
  }
  CHECK(b.write({b.part(0, 100), b.part(8192, 100)}, 1) == -EFAULT);
  CHECK(b.write({b.part(8000, 193)}, 1) == -EFAULT);
  CHECK(b.write({b.part(0, 100)}, 2) == -EFAULT);
  CHECK(b.write({b.part(0, 100)}, 3) == -EFAULT);  // an empty slot
  CHECK(b.dir.read("file").empty());
  CHECK(b.write({b.part(8192, 100), b.part(8000 + 8192, 192)}, 2) == 292);
}

TEST_CASE("no more ops are in flight than the completion queue has room for") {
  bench b({.ring_entries = 8, .completion_entries = 16});
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::vector<std::byte> got(50);
  for (std::size_t i = 0; i < 50; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(pairs[i].ours(), std::span(got).subspan(i, 1)));
    b.start(ops[i]);
  }
  b.idle_turns();
  CHECK(b.counters.ops.submitted.get() > 0);
  CHECK(b.counters.ops.submitted.get() < 16);
  for (std::size_t i = 0; i < 50; ++i) {
    REQUIRE(support::send_all(pairs[i].theirs(), pattern(32, i, 1)));
  }
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  CHECK(b.counters.ring.cq_overflows.get() == 0);
  CHECK(support::is_pattern(got, 32, 0));
}

TEST_CASE("with the completion queue full of ops that wait, workers still work") {
  bench b({.ring_entries = 8, .completion_entries = 16});
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::vector<std::byte> got(20);
  for (std::size_t i = 0; i < 20; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(pairs[i].ours(), std::span(got).subspan(i, 1)));
    b.start(ops[i]);
  }
  b.idle_turns();
  CHECK(b.run(call_of([](void*) -> std::int64_t { return 7; }, nullptr)) == 7);
  for (const told_op& o : ops) CHECK(o.times_told == 0);
  for (told_op& o : ops) b.on().cancel(o, ECANCELED);
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
}

TEST_CASE("polls that wait leave room for others, however many there are") {
  bench b({.ring_entries = 8, .completion_entries = 32});
  CHECK(b.carrier().polls_max() == 32 - 8 - 4);
  std::vector<stream_pair> pairs;
  std::deque<told_op> polls;
  for (std::size_t i = 0; i < 40; ++i) {
    pairs.push_back(stream_pair::local());
    b.start(polls.emplace_back(poll_for(pairs[i].ours(), POLLIN)));
  }
  b.idle_turns();
  CHECK(b.counters.ops.submitted.get() == b.carrier().polls_max());
  const stream_pair busy = stream_pair::tcp();
  const std::vector<std::byte> bytes = pattern(33, 0, 10);
  std::vector<std::byte> got(10);
  REQUIRE(support::send_all(busy.theirs(), bytes));
  CHECK(b.run(recv_into(busy.ours(), got, MSG_WAITALL)) == 10);
  CHECK(b.run(send_of(busy.ours(), bytes)) == 10);
  // Those without room are served as soon as others end, in their order.
  for (const stream_pair& pair : pairs)
    REQUIRE(support::send_all(pair.theirs(), pattern(34, 0, 1)));
  REQUIRE(b.until([&] { return b.on().ops_under_way() == 0; }));
  for (const told_op& o : polls) CHECK(o.told == POLLIN);
  CHECK(b.counters.ring.cq_overflows.get() == 0);
}

TEST_CASE("a host is called until every cancel has been handed over") {
  bench b({.ring_entries = 8, .completion_entries = 64});
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::byte byte{};
  for (std::size_t i = 0; i < 56; ++i) {
    pairs.push_back(stream_pair::local());
    b.start(ops.emplace_back(recv_into(pairs[i].ours(), std::span(&byte, 1))));
  }
  host h(b);
  for (told_op& o : ops) b.on().cancel(o, ECANCELED);
  b.turn();
  while (b.on().ops_under_way() > 0) {
    REQUIRE((b.on().has_work() || h.sleep()));
    b.turn();
  }
  CHECK(b.counters.ring.cq_overflows.get() == 0);
}

TEST_CASE("a cancel of more ops than the submission queue holds reaches them all") {
  tuning::counters counters;
  made_ring made = make_ring({.ring_entries = 8, .completion_entries = 512}, counters);
  loop on(*made.backend, counters);
  std::vector<stream_pair> pairs;
  std::deque<told_op> ops;
  std::byte byte{};
  for (std::size_t i = 0; i < 300; ++i) {
    pairs.push_back(stream_pair::local());
    ops.emplace_back(recv_into(pairs[i].ours(), std::span(&byte, 1)));
    on.start(ops[i], nullptr);
  }
  on.turn(0, 1000);
  for (told_op& o : ops) on.cancel(o, ECANCELED);
  for (int i = 0; i < 1000 && on.ops_under_way() > 0; ++i) on.turn(100'000'000, 1000);
  for (const told_op& o : ops) CHECK(o.told == -ECANCELED);
  CHECK(counters.ring.cq_overflows.get() == 0);  // though each cancel has a completion of its own
}

TEST_CASE("a send without a copy ends with its notification, and the kernel's word on copies") {
  tuning::counters counters;
  made_ring made = make_ring({.ring_entries = 8, .completion_entries = 16}, counters);
  if (!made.found.present("ring.op.send_zc")) {
    MESSAGE("no send_zc here");
    return;
  }
  loop on(*made.backend, counters);
  alignas(4096) static std::array<std::byte, 8192> block;
  REQUIRE(made.backend->open_buffer_table(1) == 0);
  REQUIRE(made.backend->register_buffer(0, {block.data(), block.size()}) == 0);
  const stream_pair pair = stream_pair::tcp();
  std::deque<told_op> ops;
  // More than the completion queue has room for: two places each.
  for (int i = 0; i < 40; ++i) {
    told_op& o = ops.emplace_back(send_of(pair.ours(), block));
    o.request.kind = op_kind::send_zc;
    on.start(o, nullptr);
  }
  std::vector<std::byte> taken(40 * block.size());
  std::thread taker([&] { support::recv_all(pair.theirs(), taken); });
  for (int i = 0; i < 10'000 && on.ops_under_way() > 0; ++i) on.turn(1'000'000, 1000);
  taker.join();
  for (const told_op& o : ops) {
    CHECK(o.times_told == 1);
    CHECK(o.told == static_cast<std::int64_t>(block.size()));
    CHECK(o.copied);  // on loopback
    CHECK(!o.holds_memory);
  }
  CHECK(counters.ring.cq_overflows.get() == 0);
}

TEST_CASE("a send without a copy that a socket refuses ends with that, its memory back") {
  bench b;
  const stream_pair pair = stream_pair::local();
  alignas(4096) static std::array<std::byte, 4096> block;
  told_op o(send_of(pair.ours(), block));
  o.request.kind = op_kind::send_zc;
  CHECK(b.run(o) < 0);  // EFAULT too: nothing is registered
  CHECK(!o.holds_memory);
}

}  // namespace suite
