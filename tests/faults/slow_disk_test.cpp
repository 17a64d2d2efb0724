// A disk slower than its senders: what has been received and is not yet written stays within the
// engine's memory, the senders are held back by TCP, and all of it arrives in the end.
#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;

constexpr std::size_t uploads = 8;
constexpr std::uint64_t upload_length = 1 << 20;
constexpr std::uint64_t arena_bytes = 1 << 20;
constexpr int socket_bytes = 64 * 1024;  // asked for at either end; the kernel doubles it
constexpr std::uint64_t underway_max = arena_bytes + uploads * 2 * 2 * socket_bytes;
static_assert(underway_max < uploads * upload_length / 2, "else it would show nothing");

conformance::stream_pair narrow_pair() {
  conformance::stream_pair ends = conformance::stream_pair::tcp();
  for (const int fd : {ends.ours(), ends.theirs()}) {
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &socket_bytes, sizeof socket_bytes) == 0);
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &socket_bytes, sizeof socket_bytes) == 0);
  }
  return ends;
}

// Counts what the kernel has taken from it.
void send_counted(int fd, std::span<const std::byte> bytes, std::atomic<std::uint64_t>& sent) {
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min<std::size_t>(bytes.size(), 16 * 1024));
    if (!conformance::send_all(fd, piece)) return;
    sent += piece.size();
    bytes = bytes.subspan(piece.size());
  }
}

// Uploads at once; the most that was under way between the senders and the disk.
std::uint64_t upload_all(support::fault_fs& disk, conformance::world& w) {
  std::atomic<std::uint64_t> sent{0};
  std::uint64_t highest = 0;
  std::size_t ended = 0;
  std::size_t whole = 0;
  std::vector<std::vector<std::byte>> bodies;
  std::vector<std::unique_ptr<conformance::peer>> senders;
  for (std::size_t i = 0; i < uploads; ++i) bodies.push_back(support::pattern(i, 0, upload_length));
  for (std::size_t i = 0; i < uploads; ++i) {
    conformance::stream_pair ends = narrow_pair();
    senders.push_back(std::make_unique<conformance::peer>(
        ends.take_theirs(), [&, i](int fd) { send_counted(fd, bodies[i], sent); }));
    conformance::upload_request request{w.folder().path(), "body" + std::to_string(i),
                                        conformance::of_length(upload_length)};
    w.engine().start(
        conformance::receive_upload(w.engine(), conformance::adopt(w.engine(), ends.take_ours()),
                                    std::move(request)),
        [&](const conformance::uploaded& u) {
          ++ended;
          whole += u.outcome && u.published ? 1 : 0;
        });
  }
  w.until([&] {
    const std::uint64_t stored = disk.orders().taken_bytes;
    highest = std::max(highest, sent.load() - std::min(sent.load(), stored));
    return ended == uploads;
  });
  for (const auto& s : senders) s->join();
  w.settle();
  CHECK(whole == uploads);
  for (std::size_t i = 0; i < uploads; ++i) {
    CHECK(conformance::same_bytes(conformance::content_of(w.at("body" + std::to_string(i))),
                                  bodies[i]));
  }
  return highest;
}

}  // namespace

TEST_CASE("a slow disk slows its senders, and no more than the engine's memory waits for it") {
  for (const std::string& backend : support::backends()) {
    for (const std::string path : {"copy", "direct", "splice"}) {
      on_fault_fs({}, [&](support::fault_fs& disk) {
        CAPTURE(backend);
        CAPTURE(path);
        conformance::world w({backend, backend, disk.mount_point(), true, ""},
                             {{"sluice.memory.arena_bytes", "1M"},
                              {"sluice.memory.block_bytes", "64K"},
                              {"sluice.receive.path", path},
                              {"sluice.splice.pipe_bytes", "256K"},
                              {"sluice.splice.pipes_max", "4"}});
        static_assert(4 * 256 * 1024 <= arena_bytes);
        disk.orders().write_delay_us = 1'000;
        CHECK(upload_all(disk, w) <= underway_max);
        // It was the pool that held them back.
        const bool by_pipe = path == "splice";
        CHECK(w.counter(by_pipe ? "sluice.splice.pipes_waited" : "sluice.memory.leases_waited") >
              0);
      });
    }
  }
}

TEST_CASE("while a disk answers nothing its sender is stopped, however much it has to send") {
  constexpr std::uint64_t length = 16 << 20;
  // Three blocks, or a pipe, are on their way to the disk, one is filled behind them; and what a
  // socket's buffer lacks room for by a byte it takes as well, a packet of up to 64 KiB.
  constexpr std::uint64_t accepted_max = 5 * 64 * 1024 + 2 * 2 * socket_bytes;
  static_assert(accepted_max < length / 16);
  for (const std::string& backend : support::backends()) {
    for (const std::string path : {"copy", "direct", "splice"}) {
      on_fault_fs({}, [&](support::fault_fs& disk) {
        CAPTURE(backend);
        CAPTURE(path);
        conformance::world w({backend, backend, disk.mount_point(), true, ""},
                             {{"sluice.memory.arena_bytes", "4M"},
                              {"sluice.memory.block_bytes", "64K"},
                              {"sluice.receive.path", path},
                              {"sluice.receive.depth", "3"},
                              {"sluice.splice.pipe_bytes", "256K"}});
        disk.orders().of(support::request_kind::write).stop_at = 6;
        const std::vector<std::byte> body = support::pattern(1, 0, length);
        conformance::stream_pair ends = narrow_pair();
        std::atomic<std::uint64_t> sent{0};
        conformance::peer sender(ends.take_theirs(), [&](int fd) { send_counted(fd, body, sent); });
        bool ended = false;
        conformance::upload_request request{w.folder().path(), "body",
                                            conformance::of_length(length)};
        w.engine().start(
            conformance::receive_upload(
                w.engine(), conformance::adopt(w.engine(), ends.take_ours()), std::move(request)),
            [&](const conformance::uploaded& u) { ended = u.outcome && u.published; });
        w.until([&disk] { return disk.has_stopped(std::chrono::milliseconds(0)); });
        std::uint64_t before = 0;
        do {
          before = sent;
          const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
          w.until([end] { return std::chrono::steady_clock::now() > end; });
        } while (sent != before);
        CHECK(before <= disk.orders().taken_bytes + accepted_max);
        disk.resume();
        w.until([&ended] { return ended; });
        CHECK(conformance::same_bytes(conformance::content_of(w.at("body")), body));
      });
    }
  }
}
