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
