// Small transfers of odd lengths by every path there is. tools/test --big moves all lengths, and
// 5 GiB.
#include "conformance/every_size.hpp"
#include "transfer/splice_ways.hpp"

namespace {

using namespace every_path;

}  // namespace

TEST_CASE("odd sizes up to three pages, one after the other on a connection, by every path") {
  pieces p{.seed = 71, .lengths = splice_ways::small_lengths()};
  p.lengths.push_back(4097 + 8191);
  p.lengths.push_back(0);
  p.lengths.push_back(3);
  move_each(every_setting(), p);
}
