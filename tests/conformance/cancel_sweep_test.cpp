// Every path, cancelled after each of its operations.
#include "conformance/every_path.hpp"
#include "faults/sharing.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace every_path;

constexpr std::uint64_t block = 32 * 1024;

// Of which one end holds so little that its sender waits again and again.
stream_pair narrow_pair() {
  constexpr int bytes = 16 * 1024;
  stream_pair made = stream_pair::local();
  for (const int fd : {made.ours(), made.theirs()}) {
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
  }
  return made;
}

// No send without a copy by a narrow pair: those are local sockets.
transfer::wires wires_of(const route& by, std::uint64_t round) {
  if (by.is_of_ring || round % 2 == 0) return transfer::tcp();
  return {narrow_pair(), narrow_pair()};
}

// Whether it was cancelled, and did not end by itself before.
bool cancel_after(world& w, const route& by, content c, std::uint64_t operations) {
  const std::uint64_t before = w.counter("sluice.ops.completed");
  transfer t(w, by, c, wires_of(by, operations));
  w.until(
      [&] { return t.has_ended() || w.counter("sluice.ops.completed") - before >= operations; });
  t.cancel();
  t.cancel();  // the second one finds nothing more to do
  t.finish();
  if (t.outcome().failure == 0) {
    t.check_whole();
    return false;
  }
  CHECK(t.outcome().failure == ECANCELED);
  t.check_part();
  return true;
}

template <class Wanted>
void cancel_each(const std::vector<setting>& settings, Wanted wanted) {
  for_each(settings, small_steps, wanted, [](world& w, const route& by) {
    const content c{.seed = 72, .length = 6 * block + 321};
    make_source(w.at("source"), c);
    std::uint64_t cancelled = 0;
    int ended_by_themselves = 0;
    for (std::uint64_t k = 0; k < 400 && ended_by_themselves < 3; ++k) {
      CAPTURE(k);
      const bool in_time = cancel_after(w, by, c, k);
      ended_by_themselves += in_time ? 0 : 1;
      cancelled += in_time ? 1 : 0;
      if (!by.is_past_us || k % 2 == 0) continue;
      // Of other bytes: what was left in a pipe would be found in the next one's.
      transfer next(w, by, {c.seed, block + 5, 2 * block + 3}, transfer::local());
      next.finish();
      next.check_whole();
    }
    CHECK(ended_by_themselves == 3);
    // Blocks are shared by one call, between those that open the files and give the name.
    CHECK(cancelled >= (by.is_shared ? 4 : 6));
  });
}

}  // namespace

TEST_CASE("cancelled after any of its operations a transfer of any path ends once, and cleanly") {
  cancel_each(on_disk(), [](const route&) { return true; });
}

TEST_CASE("cancelled after any of its operations a copy that shares blocks ends so, too") {
  const auto copies = [](const route& by) { return by.kind == move::copy; };
  for (const char* filesystem : {"xfs", "btrfs"}) {
    CAPTURE(filesystem);
    faults::on_sharing(filesystem,
                       [&](const std::vector<setting>& on) { cancel_each(on, copies); });
  }
}
