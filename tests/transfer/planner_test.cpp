#include "transfer/planner.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string_view>
#include <tuple>

namespace {

using namespace sluice;

constexpr std::uint64_t block = 262'144;
constexpr kernel::direct_alignment ordinary{512, 512};
constexpr kernel::direct_alignment none{};

constexpr std::string_view no_direct = "the filesystem has no O_DIRECT for this file";
constexpr std::string_view much_alignment = "the file asks for more alignment than a page";
constexpr std::string_view block_unaligned =
    "sluice.memory.block_bytes is no multiple of the alignment";
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
      row{automatic, {100, 1'000'000}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {512, 1'000'000}, ordinary, block, by_direct, long_enough, false},
      row{automatic, {512, 1'000'000}, {512, 4096}, block, by_direct, long_enough, false},
      // forced to copy: always possible
      row{copy, {0, 1'000'000}, ordinary, block, by_copy, forced_copy, false},
      row{copy, {3, 1}, none, 1, by_copy, forced_copy, false},
      // forced to direct: whatever the length, or refused with the obstacle
      row{direct, {0, 1'000'000}, ordinary, block, by_direct, forced_direct, false},
      row{direct, {0, 1}, ordinary, block, by_direct, forced_direct, false},
      row{direct, {0, 1'000'000}, none, block, by_direct, no_direct, true},
      row{direct, {0, 1'000'000}, {8192, 512}, block, by_direct, much_alignment, true},
      row{direct, {0, 1'000'000}, {512, 4096}, 2048, by_direct, block_unaligned, true},
      row{direct, {100, 1'000'000}, ordinary, block, by_direct, forced_direct, false},
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
  CHECK(reasons.size() == 10);
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

// What a policy makes of a receive, or of a send, by each forced path and none.
struct policy_row {
  tuning::path_choice path;
  cache_policy asked;
  bool dontcache;
  sluice::path chosen;
  cache_policy cache;
  std::string_view reason;
  bool refused = false;
};

constexpr std::string_view wants_none = "the cache policy wants no pages in the cache";
constexpr std::string_view wants_pages = "the cache policy wants the pages in the cache";
constexpr std::string_view as_cached = "asked for: cache policy cached";
constexpr std::string_view as_direct = "asked for: cache policy direct";
constexpr std::string_view as_dropped = "asked for: cache policy drop_behind";
constexpr std::string_view as_dontcache = "asked for: cache policy dontcache";
constexpr std::string_view instead = "no RWF_DONTCACHE here: dropped behind the cursor";

TEST_CASE("what a cache policy makes of a receive, row by row") {
  using cache_policy::cached;
  using cache_policy::dontcache;
  using cache_policy::drop_behind;
  constexpr auto choose = tuning::path_choice::automatic;
  constexpr auto map = tuning::path_choice::mapped;
  constexpr std::string_view f_direct = "forced by sluice.receive.path=direct";
  constexpr std::string_view f_copy = "forced by sluice.receive.path=copy";
  constexpr std::string_view f_splice = "forced by sluice.receive.path=splice";
  constexpr std::string_view f_mapped = "forced by sluice.receive.path=mapped";
  constexpr auto off = path::direct;
  constexpr auto on = path::copy;
  const std::array rows{
      policy_row{choose, cached, true, on, cached, as_cached},
      policy_row{choose, cache_policy::direct, true, off, cache_policy::direct, as_direct},
      policy_row{choose, drop_behind, true, on, drop_behind, as_dropped},
      policy_row{choose, dontcache, true, on, dontcache, as_dontcache},
      policy_row{choose, dontcache, false, on, drop_behind, instead},
      policy_row{copy, cached, true, on, cached, f_copy},
      policy_row{copy, drop_behind, true, on, drop_behind, f_copy},
      policy_row{copy, dontcache, true, on, dontcache, f_copy},
      policy_row{copy, dontcache, false, on, drop_behind, f_copy},
      policy_row{copy, cache_policy::direct, true, on, cached, wants_none, true},
      policy_row{direct, cached, true, off, cache_policy::direct, wants_pages, true},
      policy_row{direct, drop_behind, true, off, cache_policy::direct, f_direct},
      policy_row{direct, dontcache, true, off, cache_policy::direct, f_direct},
      policy_row{direct, cache_policy::direct, true, off, cache_policy::direct, f_direct},
      policy_row{splice, drop_behind, true, path::splice, drop_behind, f_splice},
      policy_row{splice, dontcache, true, path::splice, drop_behind, f_splice},
      policy_row{splice, cache_policy::direct, true, path::splice, cached, wants_none, true},
      policy_row{map, cached, true, path::mapped, cached, f_mapped},
      policy_row{map, cache_policy::automatic, true, path::mapped, cached, f_mapped},
      policy_row{map, drop_behind, true, path::mapped, drop_behind, wants_none, true},
      policy_row{map, cache_policy::direct, true, path::mapped, cached, wants_none, true},
  };
  for (const policy_row& r : rows) {
    CAPTURE(r.reason);
    CAPTURE(static_cast<int>(r.asked));
    tuning::receive_knobs knobs;
    knobs.path = r.path;
    const plan made =
        plan_receive({.length = 1'000'000, .cache = r.asked},
                     {.direct = ordinary, .dontcache = r.dontcache}, {block, true}, knobs);
    CHECK(made.chosen == r.chosen);
    CHECK(made.cache == r.cache);
    CHECK(made.reason == r.reason);
    CHECK(made.refused == r.refused);
  }
}

TEST_CASE("the path mapped is taken only when asked for, and where space is promised") {
  tuning::receive_knobs knobs;
  knobs.path = tuning::path_choice::mapped;
  const file_facts untrusted{.direct = ordinary, .no_space_promise = "why"};
  const plan refused = plan_receive({.length = 10}, untrusted, {block, true}, knobs);
  CHECK(refused.refused);
  CHECK(std::string_view(refused.reason) == "why");
  const file_facts unreadable{.direct = ordinary, .readable = false};
  const plan unread = plan_receive({.length = 10}, unreadable, {block, true}, knobs);
  CHECK(unread.refused);
  CHECK(std::string_view(unread.reason) == "the file is not open for reading");
  CHECK(plan_receive({.length = 10, .checked = true}, {ordinary}, {block, true}, knobs).refused);
  CHECK(!plan_receive({.offset = 3, .length = 0}, {none}, {block, true}, knobs).refused);
}

TEST_CASE("O_DIRECT that is not trusted is taken when forced, and not by itself") {
  const file_facts fuse{.direct = ordinary, .direct_distrust = "why"};
  tuning::receive_knobs receives;
  tuning::send_knobs sends;
  sends.direct_min_bytes = 0;
  const range_request range{.length = 1'000'000};
  CHECK(plan_receive(range, fuse, {block, true}, receives).chosen == path::copy);
  CHECK(std::string_view(plan_receive(range, fuse, {block, true}, receives).reason) == "why");
  CHECK(plan_send(range, fuse, {block, true}, sends).chosen == path::copy);
  receives.path = tuning::path_choice::direct;
  sends.path = tuning::send_path_choice::direct;
  CHECK(plan_receive(range, fuse, {block, true}, receives).chosen == path::direct);
  CHECK(plan_send(range, fuse, {block, true}, sends).chosen == path::direct);
}

TEST_CASE("what a cache policy makes of a send") {
  using choice = tuning::send_path_choice;
  const auto made = [](choice forced, cache_policy asked, bool dontcache) {
    tuning::send_knobs knobs;
    knobs.path = forced;
    knobs.direct_min_bytes = 1000;
    return plan_send({.length = 2'000'000, .content = stays, .cache = asked},
                     {.direct = ordinary, .dontcache = dontcache}, {block, true}, knobs);
  };
  const auto is = [](const plan& p, path chosen, cache_policy cache, std::string_view reason) {
    return p.chosen == chosen && p.cache == cache && p.reason == reason && !p.refused;
  };
  using cache_policy::cached;
  using cache_policy::dontcache;
  using cache_policy::drop_behind;
  CHECK(is(made(choice::automatic, cached, true), path::splice, cached,
           "auto: the file does not change meanwhile"));
  CHECK(is(made(choice::automatic, cache_policy::direct, true), path::direct, cache_policy::direct,
           as_direct));
  CHECK(is(made(choice::automatic, drop_behind, true), path::copy, drop_behind, as_dropped));
  CHECK(is(made(choice::automatic, dontcache, true), path::copy, dontcache, as_dontcache));
  CHECK(is(made(choice::automatic, dontcache, false), path::copy, drop_behind, instead));
  CHECK(is(made(choice::direct, drop_behind, true), path::direct, cache_policy::direct,
           "forced by sluice.send.path=direct"));
  constexpr std::string_view undroppable = "a page on its way to the peer cannot be dropped";
  for (const auto& [forced, asked, reason] :
       {std::tuple{choice::direct, cached, wants_pages},
        std::tuple{choice::copy, cache_policy::direct, wants_none},
        std::tuple{choice::splice, cache_policy::direct, wants_none},
        std::tuple{choice::splice, drop_behind, undroppable},
        std::tuple{choice::splice, dontcache, undroppable}}) {
    const plan p = made(forced, asked, true);
    CHECK(p.refused);
    CHECK(p.reason == reason);
  }
}

TEST_CASE("a body in pieces is copied, and another path that is forced is refused") {
  constexpr std::string_view in_pieces = "a body that comes in pieces can only be copied";
  const std::array rows{
      std::tuple{automatic, path::copy, std::string_view("the body comes in pieces"), false},
      std::tuple{copy, path::copy, std::string_view("forced by sluice.receive.path=copy"), false},
      std::tuple{direct, path::direct, in_pieces, true},
      std::tuple{splice, path::splice, in_pieces, true},
      std::tuple{tuning::path_choice::mapped, path::mapped, in_pieces, true},
  };
  for (const auto& [wanted, chosen, reason, refused] : rows) {
    CAPTURE(reason);
    tuning::receive_knobs knobs;
    knobs.path = wanted;
    const plan made = plan_pieces(knobs);
    CHECK(made.chosen == chosen);
    CHECK(made.reason == reason);
    CHECK(made.refused == refused);
  }
}

TEST_CASE("when blocks leave without a copy") {
  using choice = tuning::zero_copy_choice;
  const auto made = [](choice wanted, std::uint64_t length, bool able, file_content content) {
    tuning::send_knobs knobs;
    knobs.zero_copy = wanted;
    knobs.zero_copy_min_bytes = 1000;
    knobs.splice_min_bytes = 1000;
    return plan_send({.length = length, .content = content}, {none}, {block, true, able}, knobs);
  };
  CHECK(made(choice::automatic, 1000, true, changes).zero_copy);
  CHECK(!made(choice::automatic, 999, true, changes).zero_copy);
  CHECK(!made(choice::automatic, 1000, false, changes).zero_copy);
  CHECK(!made(choice::automatic, 1000, true, stays).zero_copy);  // spliced
  CHECK(!made(choice::never, 1000, true, changes).zero_copy);
  CHECK(made(choice::always, 0, true, changes).zero_copy);
  const plan unspliced = made(choice::always, 1000, true, stays);
  CHECK(unspliced.zero_copy);
  CHECK(unspliced.chosen == path::copy);
  CHECK(std::string_view(unspliced.reason) == "sluice.send.zero_copy=always: from our memory");
  const plan refused = made(choice::always, 1000, false, changes);
  CHECK(refused.refused);
  CHECK(std::string_view(refused.reason) ==
        "sends without a copy need a ring and registered memory");
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
    cache_policy cache = cache_policy::automatic;
    cache_policy carried_out = cache_policy::cached;
  };
  constexpr std::string_view no_pages = "the cache policy wants no pages in the cache";
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
      copy_row{wanted::automatic, true, path::reflink, "asked for: cache policy direct", false,
               cache_policy::direct},
      copy_row{wanted::copy, true, path::copy, no_pages, true, cache_policy::direct},
      copy_row{wanted::copy_file_range, true, path::copy_file_range, no_pages, true,
               cache_policy::direct},
      copy_row{wanted::automatic, true, path::reflink, shares, false, cache_policy::dontcache,
               cache_policy::drop_behind},
      copy_row{wanted::copy_file_range, true, path::copy_file_range, forced_range, false,
               cache_policy::drop_behind, cache_policy::drop_behind},
  };
  for (const copy_row& r : rows) {
    tuning::copy_knobs knobs;
    knobs.path = r.path_wanted;
    const plan made = plan_file_copy(
        r.cache, {.block_bytes = block, .splice = true, .copy_file_range = r.has_range}, knobs);
    CAPTURE(r.reason);
    CHECK(made.chosen == r.chosen);
    CHECK(made.reason == r.reason);
    CHECK(made.refused == r.refused);
    CHECK(made.cache == r.carried_out);
  }
}

}  // namespace
