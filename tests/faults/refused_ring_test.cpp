// io_uring refused, as containers do it: auto runs on the pool and says why, ring fails and says
// why.
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstddef>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"
#include "support/framed_stream.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;

void install(std::span<sock_filter> filter) {
  const sock_fprog filters{.len = static_cast<unsigned short>(filter.size()),
                           .filter = filter.data()};
  REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters) < 0) {
    throw faults::cannot_show{"no seccomp filters here"};
  }
}

void refuse(unsigned call, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  install(filter);
}

// One thing to register, of all that can be.
void refuse_registration(unsigned what, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  install(filter);
}

const sluice::capability* row(const std::vector<sluice::capability>& rows, const char* name) {
  const auto found = std::ranges::find(rows, name, &sluice::capability::name);
  return found == rows.end() ? nullptr : &*found;
}

void check_upload(sluice::engine& e, const std::string& folder) {
  const std::vector<std::byte> sent = pattern(1, 0, 1'000'001);
  stream_pair ends = stream_pair::tcp();
  peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent); });
  upload_request request{folder, "body", {}};
  request.body.length = sent.size();
  std::optional<uploaded> got;
  e.start(receive_upload(e, adopt(e, ends.take_ours()), request),
          [&got](uploaded u) { got = std::move(u); });
  e.run();
  REQUIRE(got.has_value());
  CHECK(got->outcome.has_value());
  CHECK(got->published.has_value());
  CHECK(same_bytes(content_of(folder + "/body"), sent));
}

// The engine that comes of `backend=auto` here, and an upload through it.
void check_auto(const std::string& folder, const std::string& backend,
                const std::string& reason_part) {
  const std::size_t fds = support::fd_count();
  std::vector<std::string> said;
  {
    sluice::result<sluice::engine> made = sluice::engine::create(
        support::small_knobs("auto"),
        [&said](sluice::log_level, std::string_view text) { said.emplace_back(text); });
    REQUIRE(made.has_value());
    CHECK(made->backend_name() == backend);
    const std::vector<sluice::capability> rows = made->capabilities();
    const sluice::capability* ring = row(rows, "io_uring");
    REQUIRE(ring != nullptr);
    CHECK(ring->present == (backend == "ring"));
    CAPTURE(ring->reason);
    CHECK(ring->reason.find(reason_part) != std::string::npos);
    if (backend == "pool") CHECK(!said.empty());

    check_upload(*made, folder);
  }
  CHECK(support::fd_count() == fds);
}

}  // namespace

TEST_CASE("where io_uring_setup is refused, auto takes the pool and ring fails, with the reason") {
  const std::unique_ptr<support::temp_dir> folder =
      temp_dir_in(std::filesystem::current_path().string());
  for (const auto& [error, name] : std::initializer_list<std::pair<int, const char*>>{
           {EPERM, "EPERM"}, {ENOSYS, "ENOSYS"}, {EACCES, "EACCES"}}) {
    CAPTURE(name);
    faults::in_child([&, error = error, name = name] {
      refuse(SYS_io_uring_setup, error);
      check_auto(folder->path().string(), "pool", name);
      const sluice::result<sluice::engine> forced =
          sluice::engine::create(support::small_knobs("ring"));
      REQUIRE(!forced.has_value());
      CHECK(forced.error().code == error);
      CHECK(sluice::describe(forced.error()).find(name) != std::string::npos);
    });
  }
}

TEST_CASE("a filter that lets the set-up through and refuses to enter is found at the start") {
  const std::unique_ptr<support::temp_dir> folder =
      temp_dir_in(std::filesystem::current_path().string());
  faults::in_child([&] {
    refuse(SYS_io_uring_enter, EPERM);
    check_auto(folder->path().string(), "pool", "EPERM");
    CHECK(!sluice::engine::create(support::small_knobs("ring")).has_value());
  });
}

TEST_CASE("a filter that refuses only registration leaves an engine that works") {
  const std::unique_ptr<support::temp_dir> folder =
      temp_dir_in(std::filesystem::current_path().string());
  faults::in_child([&] {
    refuse(SYS_io_uring_register, EPERM);
    sluice::result<sluice::engine> made = sluice::engine::create(support::small_knobs("auto"));
    REQUIRE(made.has_value());
    check_upload(*made, folder->path().string());
  });
}

// As on Linux 5.11 to 5.18, whose probe tells of receives and knows no rings of buffers.
TEST_CASE("where no buffers can be provided a knob for multishot receives is one for others") {
  if (!support::has_backend("ring")) return;
  faults::in_child([] {
    refuse_registration(IORING_REGISTER_PBUF_RING, EINVAL);
    sluice::result<sluice::engine> made =
        sluice::engine::create(support::small_knobs("ring", {{"sluice.frames.mode", "multishot"}}));
    REQUIRE(made.has_value());
    const std::vector<sluice::capability> rows = made->capabilities();
    const sluice::capability* buffers = row(rows, "ring.provided_buffers");
    REQUIRE(buffers != nullptr);
    CHECK_FALSE(buffers->present);
    CHECK(buffers->reason.find("EINVAL") != std::string::npos);
    support::framed_stream sent(3);
    sent.anything(50);
    for (const bool forced : {false, true}) {
      CAPTURE(forced);
      stream_pair ends = stream_pair::tcp();
      peer sender(ends.take_theirs(), [&sent](int fd) { send_all(fd, sent.bytes()); });
      sluice::stream from = adopt(*made, ends.take_ours());
      const auto mode = forced ? sluice::frame_mode::multishot : sluice::frame_mode::automatic;
      sluice::frame_receiver frames(*made, from, support::framed::protocol(), {mode});
      support::frame_keeper seen(0);
      int failure = 0;
      bool ended = false;
      while (failure == 0 && !ended) {
        std::optional<sluice::result<sluice::frame>> got;
        made->start(support::next_of(frames),
                    [&got](sluice::result<sluice::frame> f) { got.emplace(std::move(f)); });
        made->run();
        REQUIRE(got.has_value());
        failure = got->has_value() ? 0 : got->error().code;
        ended = got->has_value() && !**got;
        if (failure == 0 && !ended) CHECK(seen.take(std::move(**got)));
      }
      CHECK(failure == (forced ? EOPNOTSUPP : 0));
      CHECK(ended != forced);
      if (!forced) CHECK(seen.frames == sent.frames());
    }
  });
}
