// A disk that answers nothing: transfers on other filesystems go on, the loop can be left at once,
// and what the kernel still owns is waited for, not freed.
#include <array>
#include <cstring>

#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using namespace std::chrono_literals;
using conformance::uploaded;
using support::request_kind;
namespace code = sluice::code;
using steady = std::chrono::steady_clock;

// How the body comes: as one of known length, or in pieces that the caller writes.
enum class body_kind : std::uint8_t { whole, chunked };

// Of each upload: more blocks than any engine here has threads.
constexpr std::uint64_t sent_bytes = 40 * block_bytes + 321;

// One upload to a disk that hangs in the middle, on an engine that also serves another filesystem.
// A hung transfer holds a worker for each of its writes: by default they are fewer than the
// workers.
class hung_upload {
 public:
  hung_upload(support::fault_fs& disk, const way& how, request_kind kind, std::uint64_t ordinal,
              body_kind body = body_kind::whole)
      : disk_(disk),
        healthy_(conformance::temp_dir_in(std::filesystem::current_path().string())),
        sent_(support::pattern(1, 0, sent_bytes)),
        world_(conformance::setting{name(how), how.backend, disk.mount_point(), true, ""},
               {{"sluice.memory.block_bytes", "64K"},
                {"sluice.receive.path", how.path},
                {"sluice.memory.arena_bytes", "8M"},
                {"sluice.pool.threads", "16"},  // as it comes; engines of tests have fewer
                {"sluice.storage.preallocate", how.preallocate},
                {"sluice.commit.solo_max", how.shares ? "0" : "1"}}) {
    disk_.orders().reset();
    disk_.orders().of(kind).stop_at = ordinal;
    hung_ = begin(world_.folder().path(), body);
    world_.until([&] { return disk_.has_stopped(0ms); });
  }
  hung_upload(const hung_upload&) = delete;
  hung_upload& operator=(const hung_upload&) = delete;
  ~hung_upload() { disk_.resume(); }  // else a failed check would wait for ever

  conformance::world& world() { return world_; }
  [[nodiscard]] bool has_ended() const { return hung_->has_ended; }
  [[nodiscard]] const uploaded& outcome() const { return hung_->told; }
  void cancel() { world_.engine().cancel(hung_->handle); }

  // Whether a durable upload to the other filesystem is carried out meanwhile.
  bool others_go_on() {
    const auto other = begin(healthy_->path(), body_kind::whole);
    world_.until([&other] { return other->has_ended; }, 20s);
    const bool whole =
        other->told.outcome.has_value() && other->told.published.has_value() &&
        conformance::same_bytes(conformance::content_of(healthy_->at("body")), sent_);
    std::filesystem::remove(healthy_->at("body"));
    return whole;
  }

  // Whether buffered writes to many other files are carried out meanwhile.
  bool others_are_written(std::size_t files) {
    std::size_t written = 0;
    for (std::size_t i = 0; i < files; ++i) {
      world_.engine().start(write_one(healthy_->at(std::to_string(i))),
                            [&written](int failure) { written += failure == 0 ? 1 : 0; });
    }
    const auto last = steady::now() + 10s;
    while (written < files && steady::now() < last) world_.engine().run_once(20ms);
    const bool all = written == files;
    disk_.resume();  // what was held up ends, too
    world_.until([this] { return world_.engine().task_count() == 0; });
    return all;
  }

 private:
  // Outlives whoever gives up waiting for it.
  struct upload_state {
    uploaded told;
    bool has_ended = false;
    sluice::task_handle handle;
  };

  std::shared_ptr<upload_state> begin(const std::filesystem::path& folder, body_kind body) {
    auto begun = std::make_shared<upload_state>();
    begun->handle = world_.engine().start(
        body == body_kind::chunked ? write_chunks(folder) : receive(folder), [begun](uploaded u) {
          begun->told = std::move(u);
          begun->has_ended = true;
        });
    return begun;
  }

  sluice::task<uploaded> receive(const std::filesystem::path& folder) {
    conformance::stream_pair ends = conformance::stream_pair::tcp();
    peers_.push_back(std::make_unique<conformance::peer>(
        ends.take_theirs(), [this](int fd) { conformance::send_all(fd, sent_); }));
    conformance::upload_request request{folder, "body", {}};
    request.body.length = sent_bytes;
    request.wanted = sluice::durability::durable;
    return conformance::receive_upload(
        world_.engine(), conformance::adopt(world_.engine(), ends.take_ours()), request);
  }

  sluice::task<uploaded> write_chunks(std::filesystem::path folder) {
    uploaded u;
    sluice::engine& e = world_.engine();
    sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
    if (!in) co_return u;
    sluice::result<sluice::file> into = co_await in->create();
    if (!into) co_return u;
    sluice::span_writer writer(e, *into);
    for (std::size_t at = 0; at < sent_.size(); at += block_bytes) {
      sluice::lease_await leasing = e.acquire_block();
      sluice::result<sluice::lease> block = co_await leasing;
      if (!block) co_return u;
      const std::size_t bytes = std::min<std::size_t>(block_bytes, sent_.size() - at);
      std::memcpy(block->data(), sent_.data() + at, bytes);
      const std::array<iovec, 1> spans{iovec{block->data(), bytes}};
      const sluice::result<void> begun = co_await writer.write(std::move(*block), spans);
      if (!begun) co_return u;
    }
    u.outcome = co_await writer.finish();
    if (u.outcome) u.published = co_await sluice::publish(*into, *in, "body");
    co_return u;
  }

  sluice::task<int> write_one(std::string at) {
    sluice::result<sluice::file> made = sluice::file::adopt(
        world_.engine(), ::open(at.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!made) co_return made.error().code;
    sluice::op_await writing = made->write(std::span(sent_).first(4096), 0);
    const sluice::result<std::size_t> written = co_await writing;
    co_return written ? 0 : written.error().code;
  }

  support::fault_fs& disk_;
  std::unique_ptr<support::temp_dir> healthy_;
  const std::vector<std::byte> sent_;
  conformance::world world_;
  std::vector<std::unique_ptr<conformance::peer>> peers_;  // joined before the world counts
  std::shared_ptr<upload_state> hung_;
};

// Where an upload can hang, by kind and ordinal.
struct place {
  request_kind kind;
  std::uint64_t ordinal;
};
constexpr std::array places{place{request_kind::create, 1}, place{request_kind::write, 3},
                            place{request_kind::sync, 1}, place{request_kind::sync_directory, 1}};

template <class Body>
void at_every_place(Body body) {
  on_fault_fs({}, [&](support::fault_fs& disk) {
    for (const way& how : every_way()) {
      if (how.preallocate == "off") continue;
      CAPTURE(name(how));
      for (const place& where : places) {
        CAPTURE(static_cast<int>(where.kind));
        body(disk, how, where);
      }
    }
  });
}

}  // namespace

TEST_CASE(
    "transfers on another filesystem go on while one disk hangs, and it ends well after all") {
  at_every_place([](support::fault_fs& disk, const way& how, const place& where) {
    hung_upload upload(disk, how, where.kind, where.ordinal);
    for (int i = 0; i < 3; ++i) CHECK(upload.others_go_on());
    CHECK_FALSE(upload.has_ended());
    disk.resume();
    upload.world().until([&] { return upload.has_ended(); });
    CHECK(upload.outcome().outcome.has_value());
    CHECK(upload.outcome().published.has_value());
  });
}

TEST_CASE("transfers on another filesystem go on while a body in pieces hangs") {
  on_fault_fs({}, [](support::fault_fs& disk) {
    for (const way& how : every_way({"copy"})) {
      if (how.preallocate == "off") continue;
      CAPTURE(name(how));
      hung_upload upload(disk, how, request_kind::write, 3, body_kind::chunked);
      CHECK(upload.others_go_on());
      CHECK_FALSE(upload.has_ended());
      disk.resume();
      upload.world().until([&] { return upload.has_ended(); });
      CHECK(upload.outcome().published.has_value());
    }
  });
}

// The ring's own threads would hold up those of the same hash
// (kernel-notes/stuck_write_holds_up_other_files.md).
TEST_CASE("buffered writes to many other files go on while one is stuck") {
  constexpr std::size_t files = 512;
  for (const way& how : every_way()) {
    if (how.preallocate == "off" || how.path != std::string_view("copy")) continue;
    on_fault_fs({}, [&how](support::fault_fs& disk) {
      CAPTURE(name(how));
      hung_upload upload(disk, how, request_kind::write, 3);
      CHECK(upload.others_are_written(files));
      upload.world().until([&] { return upload.has_ended(); });
      CHECK(upload.outcome().published.has_value());
    });
  }
}

TEST_CASE("run() returns soon after stop() though a disk hangs") {
  at_every_place([](support::fault_fs& disk, const way& how, const place& where) {
    hung_upload upload(disk, how, where.kind, where.ordinal);
    sluice::engine& e = upload.world().engine();
    std::thread stopper([&e] {
      std::this_thread::sleep_for(20ms);
      e.stop();
    });
    const auto begun = steady::now();
    e.run();
    CHECK(steady::now() - begun < 2s);
    stopper.join();
    CHECK_FALSE(upload.has_ended());
    disk.resume();
    upload.world().until([&] { return upload.has_ended(); });
  });
}

TEST_CASE("a cancelled upload to a hung disk ends when the disk answers, and not before") {
  at_every_place([](support::fault_fs& disk, const way& how, const place& where) {
    hung_upload upload(disk, how, where.kind, where.ordinal);
    upload.cancel();
    CHECK(upload.others_go_on());
    disk.resume();
    upload.world().until([&] { return upload.has_ended(); });
    const uploaded& u = upload.outcome();
    if (!u.outcome) {
      CHECK(u.outcome.error().code == ECANCELED);
    } else if (!u.published) {
      const int failure = u.published.error().code;
      CHECK((failure == ECANCELED || failure == code::durability_unknown));
    }
  });
}

TEST_CASE("a disk that vanishes while it hangs is an error, and the engine serves the others") {
  for (const way& how : every_way()) {
    if (how.preallocate == "off") continue;
    on_fault_fs({}, [&how](support::fault_fs& disk) {
      CAPTURE(name(how));
      hung_upload upload(disk, how, request_kind::write, 3);
      disk.vanish();
      upload.world().until([&] { return upload.has_ended(); });
      REQUIRE(!upload.outcome().outcome.has_value());
      const int failure = upload.outcome().outcome.error().code;
      CHECK_MESSAGE((failure == ECONNABORTED || failure == ENOTCONN || failure == EIO),
                    sluice::code_name(failure));
      CHECK(upload.others_go_on());
    });
  }
}

TEST_CASE("an engine destroyed while a disk hangs waits for it: the kernel still owns the memory") {
  for (const way& how : every_way()) {
    if (how.preallocate == "off") continue;
    on_fault_fs({}, [&how](support::fault_fs& disk) {
      CAPTURE(name(how));
      std::thread waker;
      {
        hung_upload upload(disk, how, request_kind::write, 3);
        const auto begun = steady::now();
        waker = std::thread([&disk] {
          std::this_thread::sleep_for(300ms);
          disk.resume();
        });
        upload.world().end_engine();
        CHECK(steady::now() - begun >= 250ms);
        CHECK(steady::now() - begun < 10s);
        CHECK(upload.has_ended());
      }
      waker.join();
    });
  }
}
