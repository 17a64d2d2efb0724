#include "transfer/planner.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string_view>

namespace {

using namespace sluice;

constexpr std::uint64_t block = 262'144;
constexpr kernel::direct_alignment ordinary{512, 512};
constexpr kernel::direct_alignment none{};

constexpr std::string_view no_direct = "the filesystem has no O_DIRECT for this file";
constexpr std::string_view much_alignment = "the file asks for more alignment than a page";
constexpr std::string_view block_unaligned =
    "sluice.memory.block_bytes is no multiple of the alignment";
constexpr std::string_view range_unaligned = "the range begins unaligned";
constexpr std::string_view too_short = "auto: shorter than direct_min_bytes";
constexpr std::string_view no_splice = "splice or sendfile is not allowed here";
constexpr std::string_view long_enough = "auto: long and the filesystem takes O_DIRECT";

template <class Choice>
struct row_of {
  Choice wanted;
  range_request range;
  kernel::direct_alignment file;
  std::uint64_t block_bytes;
  path chosen;
  std::string_view reason;
  bool refused;
  bool can_splice = true;
};

using row = row_of<tuning::path_choice>;
using send_row = row_of<tuning::send_path_choice>;

constexpr auto automatic = tuning::path_choice::automatic;
constexpr auto direct = tuning::path_choice::direct;
constexpr auto copy = tuning::path_choice::copy;
constexpr auto splice = tuning::path_choice::splice;
constexpr auto stays = file_content::unchanging;
constexpr auto changes = file_content::may_change;

template <class Row>
void check(const plan& made, const Row& wanted) {
  CAPTURE(wanted.reason);
  CAPTURE(wanted.range.offset);
  CAPTURE(wanted.range.length);
  CHECK(made.chosen == wanted.chosen);
  CHECK(made.reason == wanted.reason);
  CHECK(made.refused == wanted.refused);
}

TEST_CASE("the path of a receive, row by row") {
  constexpr std::string_view forced_direct = "forced by sluice.receive.path=direct";
  constexpr std::string_view forced_copy = "forced by sluice.receive.path=copy";
  constexpr std::string_view forced_splice = "forced by sluice.receive.path=splice";
  constexpr std::string_view unseen = "a check wants to see the bytes";
  constexpr auto by_direct = path::direct;
  constexpr auto by_copy = path::copy;
  constexpr std::array rows{
      // auto: by length, then by what the file takes
      row{automatic, {0, 1'000'000}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {0, 1000}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {0, 999}, ordinary, block, by_copy, too_short, false},
      row{automatic, {0, 0}, ordinary, block, by_copy, too_short, false},
      row{automatic, {0, 999}, none, block, by_copy, too_short, false},
      row{automatic, {0, 1'000'000}, none, block, by_copy, no_direct, false},
      row{automatic, {0, 1'000'000}, {8192, 512}, block, by_copy, much_alignment, false},
      row{automatic, {0, 1'000'000}, {4096, 4096}, block, by_direct, long_enough, false},
      row{automatic, {0, 1'000'000}, {512, 4096}, 2048, by_copy, block_unaligned, false},
      row{automatic, {100, 1'000'000}, ordinary, block, by_copy, range_unaligned, false},
      row{automatic, {512, 1'000'000}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {512, 1'000'000}, {512, 4096}, block, by_copy, range_unaligned, false},
      // forced to copy: always possible
      row{copy, {0, 1'000'000}, ordinary, block, by_copy, forced_copy, false},
      row{copy, {3, 1}, none, 1, by_copy, forced_copy, false},
      // forced to direct: whatever the length, or refused with the obstacle
      row{direct, {0, 1'000'000}, ordinary, block, by_direct, forced_direct, false},
      row{direct, {0, 1}, ordinary, block, by_direct, forced_direct, false},
      row{direct, {0, 1'000'000}, none, block, by_direct, no_direct, true},
      row{direct, {0, 1'000'000}, {8192, 512}, block, by_direct, much_alignment, true},
      row{direct, {0, 1'000'000}, {512, 4096}, 2048, by_direct, block_unaligned, true},
      row{direct, {100, 1'000'000}, ordinary, block, by_direct, range_unaligned, true},
      // forced to splice: wherever the kernel lets us, and never by itself
      row{splice, {0, 1'000'000}, ordinary, block, path::splice, forced_splice, false},
      row{splice, {3, 0}, none, block, path::splice, forced_splice, false},
      row{splice, {0, 1'000'000}, ordinary, block, path::splice, no_splice, true, false},
      row{automatic, {0, 1'000'000, stays}, none, block, by_copy, no_direct, false},
      // a check must see the bytes: of the paths only splice passes by our memory
      row{splice, {0, 1'000'000, changes, true}, ordinary, block, path::splice, unseen, true},
      row{splice,
          {0, 1'000'000, changes, true},
          ordinary,
          block,
          path::splice,
          unseen,
          true,
          false},
      row{copy, {0, 1'000'000, changes, true}, ordinary, block, by_copy, forced_copy, false},
      row{direct, {0, 1'000'000, changes, true}, ordinary, block, by_direct, forced_direct, false},
      row{automatic, {0, 1'000'000, changes, true}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {0, 999, changes, true}, ordinary, block, by_copy, too_short, false},
  };
  tuning::receive_knobs knobs;
  knobs.direct_min_bytes = 1000;
  std::set<std::string_view> reasons;
  for (const row& r : rows) {
    knobs.path = r.wanted;
    check(plan_receive(r.range, {r.file}, {r.block_bytes, r.can_splice}, knobs), r);
    reasons.insert(r.reason);
  }
  CHECK(reasons.size() == 11);
}

TEST_CASE("the path of a send, row by row: a read may begin before the range") {
  using send_choice = tuning::send_path_choice;
  constexpr std::string_view forced_direct = "forced by sluice.send.path=direct";
  constexpr std::string_view forced_copy = "forced by sluice.send.path=copy";
  constexpr std::string_view forced_splice = "forced by sluice.send.path=splice";
  constexpr std::string_view too_short_to_splice = "auto: shorter than splice_min_bytes";
  constexpr std::string_view may_change = "auto: the file may change meanwhile";
  constexpr std::string_view unchanging = "auto: the file does not change meanwhile";
  constexpr auto by_direct = path::direct;
  constexpr auto by_splice = path::splice;
  constexpr auto by_copy = path::copy;
  constexpr std::array rows{
      send_row{send_choice::automatic, {0, 1000}, ordinary, block, by_direct, long_enough, false},
      send_row{send_choice::automatic, {100, 1000}, ordinary, block, by_direct, long_enough, false},
      send_row{
          send_choice::automatic, {0, 1000, stays}, ordinary, block, by_direct, long_enough, false},
      send_row{send_choice::automatic, {0, 1000}, none, block, by_copy, no_direct, false},
      send_row{
          send_choice::automatic, {0, 1000}, {8192, 512}, block, by_copy, much_alignment, false},
      send_row{
          send_choice::automatic, {0, 1000}, {512, 4096}, 2048, by_copy, block_unaligned, false},
      // auto, too short for direct or without it: spliced when long enough and unchanging
      send_row{send_choice::automatic, {0, 999}, ordinary, block, by_copy, may_change, false},
      send_row{
          send_choice::automatic, {0, 499}, ordinary, block, by_copy, too_short_to_splice, false},
      send_row{send_choice::automatic,
               {0, 499, stays},
               ordinary,
               block,
               by_copy,
               too_short_to_splice,
               false},
      send_row{
          send_choice::automatic, {0, 500, stays}, ordinary, block, by_splice, unchanging, false},
      send_row{send_choice::automatic, {3, 999, stays}, none, block, by_splice, unchanging, false},
      send_row{send_choice::automatic, {0, 1000, stays}, none, block, by_splice, unchanging, false},
      send_row{send_choice::automatic,
               {0, 999, stays},
               ordinary,
               block,
               by_copy,
               no_splice,
               false,
               false},
      send_row{
          send_choice::automatic, {0, 1000, stays}, none, block, by_copy, no_direct, false, false},
      send_row{send_choice::copy, {0, 1000}, ordinary, block, by_copy, forced_copy, false},
      send_row{send_choice::copy, {0, 1000, stays}, ordinary, block, by_copy, forced_copy, false},
      send_row{send_choice::splice, {0, 1000}, ordinary, block, by_splice, forced_splice, false},
      send_row{send_choice::splice, {7, 0}, none, block, by_splice, forced_splice, false},
      send_row{send_choice::splice, {0, 1000}, ordinary, block, by_splice, no_splice, true, false},
      send_row{send_choice::direct, {100, 1}, ordinary, block, by_direct, forced_direct, false},
      send_row{send_choice::direct, {0, 1000}, none, block, by_direct, no_direct, true},
      send_row{send_choice::direct, {0, 1000}, {8192, 512}, block, by_direct, much_alignment, true},
      send_row{send_choice::direct, {0, 1000}, {512, 4096}, 2048, by_direct, block_unaligned, true},
  };
  tuning::send_knobs knobs;
  knobs.direct_min_bytes = 1000;
  knobs.splice_min_bytes = 500;
  std::set<std::string_view> reasons;
  for (const send_row& r : rows) {
    knobs.path = r.wanted;
    check(plan_send(r.range, {r.file}, {r.block_bytes, r.can_splice}, knobs), r);
    reasons.insert(r.reason);
  }
  CHECK(reasons.size() == 11);
}

TEST_CASE("a threshold of zero sends even nothing by the direct path") {
  tuning::receive_knobs knobs;
  knobs.direct_min_bytes = 0;
  CHECK(plan_receive({0, 0}, {ordinary}, {block, true}, knobs).chosen == path::direct);
}

TEST_CASE("the path of a relay, row by row") {
  using wanted = tuning::relay_choice;
  struct relay_row {
    wanted path_wanted;
    bool can_splice;
    path chosen;
    std::string_view reason;
    bool refused;
  };
  constexpr std::array rows{
      relay_row{wanted::automatic, true, path::splice, "auto: nobody looks at the bytes", false},
      relay_row{wanted::automatic, false, path::copy, no_splice, false},
      relay_row{wanted::splice, true, path::splice, "forced by sluice.relay.path=splice", false},
      relay_row{wanted::splice, false, path::splice, no_splice, true},
      relay_row{wanted::copy, true, path::copy, "forced by sluice.relay.path=copy", false},
      relay_row{wanted::copy, false, path::copy, "forced by sluice.relay.path=copy", false},
  };
  for (const relay_row& r : rows) {
    tuning::relay_knobs knobs;
    knobs.path = r.path_wanted;
    const plan made = plan_relay({block, r.can_splice}, knobs);
    CAPTURE(r.reason);
    CHECK(made.chosen == r.chosen);
    CHECK(made.reason == r.reason);
    CHECK(made.refused == r.refused);
  }
}

TEST_CASE("what a copy between files begins with, row by row") {
  using wanted = tuning::file_copy_choice;
  struct copy_row {
    wanted path_wanted;
    bool has_range;
    path chosen;
    std::string_view reason;
    bool refused;
  };
  constexpr std::string_view shares = "auto: the filesystem shares the blocks";
  constexpr std::string_view forced_range = "forced by sluice.copy.path=copy_file_range";
  constexpr std::array rows{
      copy_row{wanted::automatic, true, path::reflink, shares, false},
      copy_row{wanted::automatic, false, path::reflink, shares, false},
      copy_row{wanted::reflink, false, path::reflink, "forced by sluice.copy.path=reflink", false},
      copy_row{wanted::copy_file_range, true, path::copy_file_range, forced_range, false},
      copy_row{wanted::copy_file_range, false, path::copy_file_range,
               "copy_file_range is not allowed here", true},
      copy_row{wanted::copy, false, path::copy, "forced by sluice.copy.path=copy", false},
  };
  for (const copy_row& r : rows) {
    tuning::copy_knobs knobs;
    knobs.path = r.path_wanted;
    const plan made = plan_file_copy({block, true, r.has_range}, knobs);
    CAPTURE(r.reason);
    CHECK(made.chosen == r.chosen);
    CHECK(made.reason == r.reason);
    CHECK(made.refused == r.refused);
  }
}

}  // namespace
