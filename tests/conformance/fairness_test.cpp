// One that never ends and many small ones on one engine: each of the small ones is served soon.
#include <atomic>

#include "conformance/every_path.hpp"

namespace {

using namespace every_path;
using steady = std::chrono::steady_clock;

constexpr std::uint64_t endless = std::uint64_t{1} << 39;
constexpr std::size_t trickles = 50;
constexpr auto soon = 2s;  // a tenth of it, on a busy machine

constexpr std::uint64_t in_sockets_max = 16 << 20;  // more than the buffers of both ends hold

// As fast as the engine takes it, until that closes.
void give_for_ever(int fd, std::atomic<std::uint64_t>& moved) {
  const std::vector<std::byte> buffer(64 << 10);
  while (send_all(fd, buffer)) moved += buffer.size();
}
void take_for_ever(int fd, std::atomic<std::uint64_t>& moved) {
  std::vector<std::byte> buffer(1 << 20);
  while (true) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return;
    moved += static_cast<std::uint64_t>(got);
  }
}

// A transfer that takes all it can get of the engine, until it is cancelled.
class hose {
 public:
  hose(world& w, const route& by) : world_(w) {
    stream_pair in = stream_pair::tcp();
    stream_pair out = stream_pair::tcp();
    if (by.kind != move::send) {
      giver_ =
          std::make_unique<peer>(in.take_theirs(), [this](int fd) { give_for_ever(fd, given_); });
    }
    if (by.kind != move::receive) {
      taker_ =
          std::make_unique<peer>(out.take_theirs(), [this](int fd) { take_for_ever(fd, taken_); });
    }
    handle_ = w.engine().start(task(by.kind, in, out), [this](moved m) {
      has_ended_ = true;
      failure_ = m.failure;
    });
  }
  hose(const hose&) = delete;
  hose& operator=(const hose&) = delete;

  [[nodiscard]] bool has_ended() const { return has_ended_; }
  // What its last peer has taken; of a receive, which has none, what the giver got rid of.
  [[nodiscard]] std::uint64_t moved_bytes() const { return taker_ ? taken_ : given_; }
  // Until it has moved more than could be in sockets.
  void run_on() {
    const std::uint64_t before = moved_bytes();
    world_.until([&] { return has_ended_ || moved_bytes() > before + in_sockets_max; }, 60s, 1ms);
    CHECK(!has_ended_);
  }
  void end() {
    world_.engine().cancel(handle_);
    world_.until([this] { return has_ended_; });
    CHECK(failure_ == ECANCELED);
    if (giver_) giver_->join(world_);
    if (taker_) taker_->join(world_);
  }

 private:
  sluice::task<moved> task(move kind, stream_pair& in, stream_pair& out) {
    sluice::engine& e = world_.engine();
    const std::string folder = world_.folder().path().string();
    if (kind == move::relay)
      return relay_one(e, adopt(e, in.take_ours()), adopt(e, out.take_ours()));
    if (kind == move::send) {
      return send_one(e, adopt(e, out.take_ours()), folder, {.length = endless});
    }
    return receive_one(e, adopt(e, in.take_ours()), {folder, "hose", of_length(endless)});
  }

  world& world_;
  std::atomic<std::uint64_t> given_{0};
  std::atomic<std::uint64_t> taken_{0};
  std::unique_ptr<peer> giver_;
  std::unique_ptr<peer> taker_;
  sluice::task_handle handle_;
  bool has_ended_ = false;
  int failure_ = 0;
};

// Half of them uploads and half downloads, begun at once; how long the slowest took.
steady::duration serve_trickles(world& w, const std::vector<std::byte>& body) {
  const std::string folder = w.folder().path().string();
  std::vector<std::unique_ptr<peer>> peers;
  std::vector<std::vector<std::byte>> arrived(trickles);
  std::size_t ended = 0;
  std::size_t failed = 0;
  steady::duration slowest{};
  const auto begun = steady::now();
  const auto told = [&](int failure) {
    ++ended;
    failed += failure != 0 ? 1 : 0;
    slowest = steady::now() - begun;
  };
  for (std::size_t i = 0; i < trickles; ++i) {
    stream_pair ends = stream_pair::tcp();
    if (i % 2 == 0) {
      peers.push_back(std::make_unique<peer>(ends.take_theirs(), [&body, i](int fd) {
        put_dribbling(fd, body, i);
        take_all(fd);
      }));
      upload_request request{folder, "up" + std::to_string(i), of_length(body.size())};
      w.engine().start(
          receive_upload(w.engine(), adopt(w.engine(), ends.take_ours()), std::move(request)),
          [&](const uploaded& u) { told(u.published ? 0 : u.published.error().code); });
    } else {
      peers.push_back(std::make_unique<peer>(
          ends.take_theirs(), [&into = arrived[i]](int fd) { into = take_all(fd); }));
      sluice::stream to = adopt(w.engine(), ends.take_ours());
      w.engine().start(
          send_one(w.engine(), std::move(to), folder, {.length = body.size(), .offset = endless}),
          [&](const moved& m) { told(m.failure); });
    }
  }
  w.until([&] { return ended == trickles; });
  for (const auto& p : peers) p->join(w);
  CHECK(failed == 0);
  for (std::size_t i = 0; i < trickles; ++i) {
    if (i % 2 == 1) {
      CHECK(same_bytes(arrived[i], body));
      continue;
    }
    const std::string name = "up" + std::to_string(i);
    CHECK(same_bytes(content_of(w.at(name)), body));
    std::filesystem::remove(w.at(name));
  }
  return slowest;
}

// As long as a hose may want it, and a trickle's bytes behind.
void make_endless_source(world& w, const std::vector<std::byte>& body) {
  const int fd = ::open(w.at("source").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  REQUIRE(fd >= 0);
  REQUIRE(::pwrite(fd, body.data(), body.size(), endless) == static_cast<ssize_t>(body.size()));
  ::close(fd);
}

}  // namespace

TEST_CASE("fifty trickles are served soon while a fire-hose runs, whatever its path") {
  const auto wanted = [](const route& by) {
    const bool usual = !by.is_past_us || by.name.ends_with("inline");
    return usual && !by.is_of_ring && by.kind != move::copy &&
           std::string_view(by.path) != "mapped";
  };
  // A pool of sixteen blocks, of which the hose would have as many as it can fill.
  for_each(on_disk(),
           {{"sluice.memory.arena_bytes", "5M"},
            {"sluice.storage.preallocate", "off"},
            {"sluice.receive.direct_min_bytes", "1M"}},
           wanted, [](world& w, const route& by) {
             const std::vector<std::byte> body = pattern(91, 0, 6'007);
             make_endless_source(w, body);
             hose h(w, by);
             h.run_on();
             const steady::duration slowest = serve_trickles(w, body);
             CHECK(slowest < soon);
             h.run_on();
             h.end();
           });
}
