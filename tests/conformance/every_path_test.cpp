// Small transfers of odd lengths by every path there is. tools/test --big moves all lengths, and
// 5 GiB.
#include "conformance/every_size.hpp"
#include "faults/sharing.hpp"
#include "transfer/splice_ways.hpp"

REGISTER_LISTENER("failure_count", 1, faults::failure_count);

namespace {

using namespace every_path;

pieces odd_sizes() {
  pieces p{.seed = 71, .lengths = splice_ways::small_lengths()};
  p.lengths.push_back(4097 + 8191);
  p.lengths.push_back(0);
  p.lengths.push_back(3);
  return p;
}

}  // namespace

TEST_CASE("odd sizes up to three pages, one after the other on a connection, by every path") {
  move_each(every_setting(), odd_sizes());
}

TEST_CASE("odd sizes up to three pages by every path on XFS, which shares blocks") {
  faults::on_sharing("xfs", [](const std::vector<setting>& on) { move_each(on, odd_sizes()); });
}

TEST_CASE("odd sizes up to three pages by every path on btrfs, which shares blocks") {
  faults::on_sharing("btrfs", [](const std::vector<setting>& on) { move_each(on, odd_sizes()); });
}

// With buffers so small that either end waits again and again.
TEST_CASE("a socket that is handed in non-blocking serves every path as a blocking one does") {
  const content c{.seed = 73, .length = 700'001};
  for_each(
      every_setting(), {}, [](const route& by) { return by.kind != move::copy; },
      [&c](world& w, const route& by) {
        make_source(w.at("source"), c);
        transfer::wires ends = by.is_of_ring ? transfer::tcp() : transfer::local();
        for (const stream_pair* each : {&ends.in, &ends.out}) {
          constexpr int bytes = 16 * 1024;
          for (const int fd : {each->ours(), each->theirs()}) {
            REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
            REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0);
          }
          REQUIRE(::fcntl(each->ours(), F_SETFL, O_NONBLOCK) == 0);
        }
        transfer t(w, by, c, std::move(ends));
        t.finish();
        t.check_whole();
      });
}
