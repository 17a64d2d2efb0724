#include "picker.hpp"

#include <doctest/doctest.h>

#include <array>
#include <map>
#include <vector>

#include "support/seeded_data.hpp"

using bt::block_ref;
using bt::duplicates;

namespace {

constexpr std::uint64_t piece_bytes = 4 * bt::block_bytes;

bt::layout pieces(std::uint32_t count) {
  const std::array<std::uint64_t, 1> one{count * piece_bytes - 100};
  return {piece_bytes, one};
}

bt::bitfield all(std::uint32_t count) {
  bt::bitfield of(count);
  for (std::uint32_t i = 0; i < count; ++i) of.set(i);
  return of;
}

std::vector<block_ref> take(bt::picker& from, bt::source_id source, const bt::bitfield& has,
                            std::size_t count, duplicates allowed = duplicates::no) {
  std::vector<block_ref> got;
  while (got.size() < count) {
    const auto block = from.next(source, has, allowed);
    if (!block) break;
    got.push_back(*block);
  }
  return got;
}

}  // namespace

TEST_CASE("all is received when nothing is left to be asked for, whatever it proves to be") {
  const bt::layout of = pieces(2);
  bt::picker p(of);
  p.add_source(all(2));
  for (int i = 0; i < 8; ++i) {
    CHECK_FALSE(p.received_all());
    const auto block = p.next(1, all(2), duplicates::no);
    REQUIRE(block);
    p.arrived(1, *block);
  }
  CHECK(p.received_all());
  p.verified(0);
  CHECK(p.received_all());
  p.rejected(1);
  CHECK_FALSE(p.received_all());
}

TEST_CASE("one source gets the blocks in the order of the torrent, the last one shorter") {
  const bt::layout where = pieces(3);
  bt::picker picker(where);
  picker.add_source(all(3));
  const auto got = take(picker, 1, all(3), 100);
  REQUIRE(got.size() == 12);
  for (std::uint32_t i = 0; i < 12; ++i) {
    CHECK(got[i].piece == i / 4);
    CHECK(got[i].begin == i % 4 * bt::block_bytes);
  }
  CHECK(got[11].bytes == bt::block_bytes - 100);
}

TEST_CASE("rare pieces come first") {
  const bt::layout where = pieces(3);
  bt::picker picker(where);
  bt::bitfield some(3);
  some.set(0);
  some.set(2);
  picker.add_source(all(3));
  picker.add_source(some);
  CHECK(picker.next(1, all(3), duplicates::no)->piece == 1);
  CHECK(picker.next(2, some, duplicates::no)->piece == 0);
  picker.remove_source(some);
}

TEST_CASE("each source works at a piece of its own, and helps when there is no other") {
  const bt::layout where = pieces(2);
  bt::picker picker(where);
  CHECK(take(picker, 1, all(2), 1)[0].piece == 0);
  CHECK(take(picker, 2, all(2), 1)[0].piece == 1);
  CHECK(take(picker, 1, all(2), 3).back() == block_ref{0, 3 * bt::block_bytes, bt::block_bytes});
  CHECK(take(picker, 1, all(2), 1)[0] == block_ref{1, bt::block_bytes, bt::block_bytes});
}

TEST_CASE("what a source does not have it is not asked for") {
  const bt::layout where = pieces(3);
  bt::picker picker(where);
  bt::bitfield one(3);
  one.set(1);
  CHECK(picker.wants_any(one));
  for (const block_ref& block : take(picker, 1, one, 100)) CHECK(block.piece == 1);
  picker.verified(1);
  CHECK_FALSE(picker.wants_any(one));
  CHECK_FALSE(picker.next(1, one, duplicates::at_the_end));
}

TEST_CASE("what is given back is asked of another") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  const auto got = take(picker, 1, all(1), 4);
  CHECK_FALSE(picker.next(2, all(1), duplicates::no));
  picker.give_back(1, got[2]);
  CHECK(picker.release(1).empty());
  CHECK(picker.next(2, all(1), duplicates::no) == got[2]);
  CHECK_FALSE(picker.arrived(1, got[2]).wanted);
  CHECK(picker.arrived(2, got[2]).wanted);
}

TEST_CASE("the last blocks are asked of two, and whoever is slower is told") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  const auto first = take(picker, 1, all(1), 4);
  const auto second = take(picker, 2, all(1), 100, duplicates::at_the_end);
  CHECK(second == first);
  CHECK_FALSE(picker.next(3, all(1), duplicates::at_the_end));
  const bt::picker::arrival fast = picker.arrived(2, first[0]);
  CHECK(fast.wanted);
  CHECK(fast.other == 1);
  CHECK_FALSE(picker.arrived(1, first[0]).wanted);
  picker.give_back(1, first[1]);  // the second one still owes it
  CHECK_FALSE(picker.next(4, all(1), duplicates::no));
  CHECK(picker.arrived(2, first[1]).wanted);
}

TEST_CASE("a piece counts once it is verified") {
  const bt::layout where = pieces(2);
  bt::picker picker(where);
  const auto got = take(picker, 1, all(2), 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(picker.arrived(1, got[i]).whole == (i == 3));
  CHECK(picker.have_count() == 0);
  picker.verified(0);
  CHECK(picker.have_count() == 1);
  CHECK(picker.have().has(0));
  CHECK_FALSE(picker.complete());
  picker.verified(1);
  picker.verified(1);
  CHECK(picker.complete());
}

TEST_CASE("a piece that came wrong names its senders and then comes from one alone") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  const auto got = take(picker, 1, all(1), 4);
  for (const block_ref& b : {got[0], got[1]}) picker.give_back(1, b);
  const auto helped = take(picker, 2, all(1), 2);
  for (const block_ref& b : helped) picker.arrived(2, b);
  for (const block_ref& b : {got[2], got[3]}) picker.arrived(1, b);
  CHECK(picker.senders(0) == std::vector<bt::source_id>{2, 2, 1, 1});
  picker.rejected(0);
  CHECK(picker.senders(0).empty());
  const auto again = take(picker, 1, all(1), 2);
  CHECK(again.size() == 2);
  CHECK_FALSE(picker.next(2, all(1), duplicates::at_the_end));
  for (const block_ref& b : again) picker.arrived(1, b);
  CHECK(take(picker, 1, all(1), 100).size() == 2);
}

TEST_CASE("what comes wrong, and what goes with its source, is no progress") {
  const bt::layout where = pieces(2);
  bt::picker picker(where);
  picker.add_source(all(2));
  const auto deliver = [&picker](bt::source_id source) {
    for (const block_ref& block : take(picker, source, all(2), 4)) picker.arrived(source, block);
  };
  CHECK(picker.blocks_here() == 0);
  deliver(1);
  CHECK(picker.blocks_here() == 4);
  picker.rejected(0);
  CHECK(picker.blocks_here() == 0);
  const auto half = take(picker, 1, all(2), 2);
  for (const block_ref& block : half) picker.arrived(1, block);
  CHECK(picker.blocks_here() == 2);
  picker.release(1);  // piece 0 is to come from one alone now
  CHECK(picker.blocks_here() == 0);
  deliver(1);
  picker.verified(0);
  CHECK(picker.blocks_here() == 4);
}

TEST_CASE("a piece from one alone begins anew when that one goes") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  for (const block_ref& b : take(picker, 1, all(1), 4)) picker.arrived(1, b);
  picker.rejected(0);
  const auto some = take(picker, 1, all(1), 3);
  picker.arrived(1, some[0]);
  picker.give_back(1, some[1]);
  picker.give_back(1, some[2]);
  CHECK(picker.release(1) == std::vector<std::uint32_t>{0});
  CHECK(take(picker, 2, all(1), 100).size() == 4);
}

TEST_CASE("a piece from one alone goes over to another when that one takes too long") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  for (const block_ref& b : take(picker, 1, all(1), 4)) picker.arrived(1, b);
  picker.rejected(0);
  const auto slow = take(picker, 1, all(1), 4);
  CHECK(picker.arrived(1, slow[0]).wanted);
  CHECK_FALSE(picker.find_overdue(2, all(1)));
  int intervals = 1;
  while (!picker.grow_older(1)) ++intervals;
  CHECK(intervals == 6);
  CHECK_FALSE(picker.grow_older(2));  // which has none
  CHECK_FALSE(picker.find_overdue(1, all(1)));
  CHECK_FALSE(picker.find_overdue(2, bt::bitfield(1)));
  const auto late = picker.find_overdue(2, all(1));
  REQUIRE(late);
  CHECK(late->piece == 0);
  CHECK(late->owner == 1);
  picker.take_over(2, 0);
  const auto fast = take(picker, 2, all(1), 100);
  CHECK(fast == slow);  // all of it, nothing of what the slow one sent
  CHECK_FALSE(picker.arrived(1, slow[1]).wanted);
  // The next one waits twice as long.
  for (intervals = 1; !picker.grow_older(2);) ++intervals;
  CHECK(intervals == 12);
  for (const block_ref& b : fast) CHECK(picker.arrived(2, b).wanted);
  CHECK_FALSE(picker.grow_older(2));  // it is here, and being checked
  CHECK_FALSE(picker.find_overdue(1, all(1)));
  CHECK(picker.senders(0) == std::vector<bt::source_id>(4, 2));
}

TEST_CASE("a piece that several may send is never overdue") {
  const bt::layout where = pieces(1);
  bt::picker picker(where);
  static_cast<void>(take(picker, 1, all(1), 4));
  for (int i = 0; i < 100; ++i) CHECK_FALSE(picker.grow_older(1));
  CHECK_FALSE(picker.find_overdue(2, all(1)));
}

TEST_CASE("whatever sources do, every block comes and each is taken once") {
  constexpr std::uint32_t count = 30;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    support::seeded_random random(seed);
    const bt::layout where = pieces(count);
    bt::picker picker(where);
    std::map<bt::source_id, std::vector<block_ref>> asked;
    std::uint64_t taken = 0;
    int turns = 0;
    while (!picker.complete() && ++turns < 200'000) {
      const auto source = static_cast<bt::source_id>(1 + random.below(4));
      std::vector<block_ref>& own = asked[source];
      const std::uint64_t what = random.below(20);
      if (what == 0) {  // it chokes, or goes
        for (const block_ref& b : own) picker.give_back(source, b);
        own.clear();
        for (const std::uint32_t piece : picker.release(source))
          CHECK_FALSE(picker.have().has(piece));
      } else if (what == 1) {  // time passes, and it has nothing to do
        for (bt::source_id one = 1; one <= 4; ++one) picker.grow_older(one);
        const auto late = picker.find_overdue(source, all(count));
        if (late && own.empty()) picker.take_over(source, late->piece);
      } else if (what < 10 && own.size() < 20) {
        const auto b = picker.next(source, all(count), duplicates::at_the_end);
        if (b) own.push_back(*b);
      } else if (!own.empty()) {
        const std::size_t which = random.below(own.size());
        const block_ref b = own[which];
        own.erase(own.begin() + static_cast<std::ptrdiff_t>(which));
        const bt::picker::arrival a = picker.arrived(source, b);
        if (a.wanted) ++taken;
        if (!a.whole) continue;
        if (random.below(10) == 0) {
          picker.rejected(b.piece);
        } else {
          picker.verified(b.piece);
        }
      }
    }
    CHECK_MESSAGE(picker.complete(), "seed ", seed);
    CHECK(taken >= count * 4);
  }
}
