// A disk that answers nothing: transfers on other filesystems go on, the loop can be left at once,
// and what the kernel still owns is waited for, not freed.
#include "faults/disk.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace faults;
using namespace std::chrono_literals;
using conformance::uploaded;
using support::request_kind;
namespace code = sluice::code;
using steady = std::chrono::steady_clock;

// One upload to a disk that hangs in the middle, on an engine that also serves another filesystem.
// A hung transfer holds a worker for each of its writes: they are fewer than the workers.
class hung_upload {
 public:
  hung_upload(support::fault_fs& disk, const way& how, request_kind kind, std::uint64_t ordinal)
      : disk_(disk),
        healthy_(conformance::temp_dir_in(std::filesystem::current_path().string())),
        sent_(support::pattern(1, 0, upload_bytes)),
        world_(conformance::setting{name(how), how.backend, disk.mount_point(), true, ""},
               {{"sluice.memory.block_bytes", "64K"},
                {"sluice.receive.path", how.path},
                {"sluice.receive.depth", "3"},
                {"sluice.storage.preallocate", how.preallocate},
                {"sluice.commit.solo_max", how.shares ? "0" : "1"}}) {
    disk_.orders().reset();
    disk_.orders().of(kind).stop_at = ordinal;
    handle_ = begin(world_.folder().path(), hung_, told_);
    world_.until([&] { return disk_.has_stopped(0ms); });
  }
  hung_upload(const hung_upload&) = delete;
  hung_upload& operator=(const hung_upload&) = delete;
  ~hung_upload() { disk_.resume(); }  // else a failed check would wait for ever

  conformance::world& world() { return world_; }
  [[nodiscard]] bool has_ended() const { return told_ > 0; }
  [[nodiscard]] const uploaded& outcome() const { return hung_; }
  void cancel() { world_.engine().cancel(handle_); }

  // Whether a durable upload to the other filesystem is carried out meanwhile.
  bool others_go_on() {
    uploaded other;
    int told = 0;
    begin(healthy_->path(), other, told);
    world_.until([&told] { return told > 0; }, 20s);
    const bool whole =
        other.outcome.has_value() && other.published.has_value() &&
        conformance::same_bytes(conformance::content_of(healthy_->at("body")), sent_);
    std::filesystem::remove(healthy_->at("body"));
    return whole;
  }

 private:
  sluice::task_handle begin(const std::filesystem::path& folder, uploaded& into, int& told) {
    conformance::stream_pair ends = conformance::stream_pair::tcp();
    peers_.push_back(std::make_unique<conformance::peer>(
        ends.take_theirs(), [this](int fd) { conformance::send_all(fd, sent_); }));
    conformance::upload_request request{folder, "body", {}};
    request.body.length = upload_bytes;
    request.wanted = sluice::durability::durable;
    return world_.engine().start(
        conformance::receive_upload(world_.engine(),
                                    conformance::adopt(world_.engine(), ends.take_ours()), request),
        [&into, &told](uploaded u) {
          into = std::move(u);
          ++told;
        });
  }

  support::fault_fs& disk_;
  std::unique_ptr<support::temp_dir> healthy_;
  const std::vector<std::byte> sent_;
  conformance::world world_;
  std::vector<std::unique_ptr<conformance::peer>> peers_;  // joined before the world counts
  uploaded hung_;
  int told_ = 0;
  sluice::task_handle handle_;
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
