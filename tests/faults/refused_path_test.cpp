// Paths that a system refuses only when they are tried: path auto goes another way and says why, a
// forced path is refused with the reason.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstddef>

#include "conformance/download.hpp"
#include "conformance/upload.hpp"
#include "faults/child.hpp"
#include "kernel/file_info.hpp"
#include "transfer/relay_ways.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace conformance;
namespace code = sluice::code;

constexpr std::uint64_t length = 300'001;

// From now on, of this thread and those that it makes.
void filter_calls(std::span<sock_filter> filter) {
  const sock_fprog filters{.len = static_cast<unsigned short>(filter.size()),
                           .filter = filter.data()};
  REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters) < 0) {
    throw faults::cannot_show{"no seccomp filters here"};
  }
}

void refuse_splice() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_splice, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  filter_calls(filter);
}

// fcntl(F_SETFL) with O_DIRECT among the flags; the low half of an argument comes first in memory.
void refuse_direct() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETFL, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_DIRECT, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  filter_calls(filter);
}

// check(world) on each backend, in a child of its own.
template <class Check>
void on_each_backend(knob_list more, Check check) {
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    faults::in_child([&] {
      const std::string here = std::filesystem::current_path().string();
      world w({backend, backend, here, takes_direct(here), ""}, more);
      check(w);
    });
  }
}

uploaded upload(world& w, const std::vector<std::byte>& body) {
  return upload_from(w, of_length(body.size()), [&body](int fd) { send_all(fd, body); });
}

void check_direct_is_refused(world& w) {
  constexpr std::string_view refused = "O_DIRECT refused by the filesystem";
  const std::vector<std::byte> body = pattern(1, 0, length);
  make_file(w.at("source"), body);
  const uploaded received = upload(w, body);
  REQUIRE(received.outcome.has_value());
  CHECK(std::string_view(name(received.outcome->path)) == "copy");
  CHECK(received.outcome->reason == refused);
  CHECK(same_bytes(content_of(w.at("body")), body));
  const sent given = send_range(w, range(0, length), take_all);
  REQUIRE(given.outcome.has_value());
  CHECK(std::string_view(name(given.outcome->path)) == "copy");
  CHECK(given.outcome->reason == refused);
  CHECK(same_bytes(given.arrived, body));

  REQUIRE(w.engine().set_knob("sluice.receive.path", "direct").has_value());
  REQUIRE(w.engine().set_knob("sluice.send.path", "direct").has_value());
  const uploaded not_received = upload_from(w, of_length(length), stay_silent);
  REQUIRE(!not_received.outcome.has_value());
  CHECK(not_received.outcome.error().code == code::path_unavailable);
  CHECK(not_received.outcome.error().where == refused);
  CHECK(not_received.progress.reason == refused);
  const sent not_given = send_range(w, range(0, length), take_all);
  REQUIRE(!not_given.outcome.has_value());
  CHECK(not_given.outcome.error().code == code::path_unavailable);
  CHECK(not_given.outcome.error().where == refused);
  CHECK(not_given.arrived.empty());
}

void check_relay_is_refused(world& w) {
  constexpr std::string_view refused = "splice refused by the socket";
  const std::vector<std::byte> bytes = pattern(2, 0, length);
  relay_ways::joint ends;
  std::vector<std::byte> at_second;
  peer left(ends.left.take_theirs(), [&](int fd) {
    send_all(fd, std::span(bytes).subspan(5000));
    ::shutdown(fd, SHUT_WR);
    take_all(fd);
  });
  peer right(ends.right.take_theirs(), [&](int fd) { at_second = take_all(fd); });
  const relay_ways::relayed r = w.run(ends.task(w, {std::span(bytes).first(5000), {}}));
  left.join(w);
  right.join(w);
  REQUIRE(r.failure() == 0);
  const sluice::receipt& there = r.outcome->to_second;
  CHECK(std::string_view(name(there.path)) == "copy");
  CHECK(there.reason == refused);
  CHECK(there.copies == 2);
  CHECK(there.misrouted_bytes == 0);
  CHECK(same_bytes(at_second, bytes));

  REQUIRE(w.engine().set_knob("sluice.relay.path", "splice").has_value());
  relay_ways::joint others;
  const std::byte one{};
  REQUIRE(send_all(others.left.theirs(), std::span(&one, 1)));
  const relay_ways::relayed not_relayed = w.run(others.task(w));
  REQUIRE(not_relayed.failure() == code::path_unavailable);
  CHECK(not_relayed.outcome.error().where == refused);
  CHECK(not_relayed.progress.to_second.reason == refused);
}

void check_no_space_is_reserved(world& w) {
  constexpr std::string_view refused = "the filesystem reserves no space";
  const std::vector<std::byte> body = pattern(3, 0, length);
  REQUIRE(w.engine().set_knob("sluice.receive.path", "mapped").has_value());
  const uploaded mapped = upload_from(w, of_length(length), stay_silent);
  REQUIRE(!mapped.outcome.has_value());
  CHECK(mapped.outcome.error().code == code::path_unavailable);
  CHECK(mapped.outcome.error().where == refused);
  CHECK(mapped.progress.reason == refused);
  CHECK(w.names().empty());
  // A path that only likes to have it does without.
  REQUIRE(w.engine().set_knob("sluice.receive.path", "copy").has_value());
  CHECK(upload(w, body).outcome.has_value());
  CHECK(same_bytes(content_of(w.at("body")), body));
}

}  // namespace

TEST_CASE("O_DIRECT that is refused when it is switched on: copied, or refused with the reason") {
  on_each_backend({{"sluice.send.direct_min_bytes", "64K"}}, [](world& w) {
    const int fd = ::open(w.at("").c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    refuse_direct();
    const bool looks_possible = sluice::kernel::inode_of(fd)->direct.possible();
    ::close(fd);
    if (!looks_possible) throw faults::cannot_show{"no statx(2) that tells of O_DIRECT"};
    check_direct_is_refused(w);
  });
}

TEST_CASE("splice that a socket refuses: relayed by copying, or refused with the reason") {
  on_each_backend({{"sluice.splice.via", "inline"}}, [](world& w) {
    refuse_splice();
    check_relay_is_refused(w);
  });
}

// ext4 as it was without extents.
TEST_CASE("a filesystem that reserves no space: not mapped, and by copying all the same") {
  const std::unique_ptr<support::temp_dir> parent =
      temp_dir_in(std::filesystem::current_path().string());
  const std::string root = parent->at("disk");
  REQUIRE(std::filesystem::create_directory(root));
  faults::in_child([&] {
    faults::mount_ext4_on_little(root, 16 << 20, "-O ^extent,^64bit");
    for (const std::string& backend : support::backends()) {
      CAPTURE(backend);
      world w({backend, backend, root, false, ""});
      check_no_space_is_reserved(w);
    }
  });
}
