#include "journal.hpp"

#include <doctest/doctest.h>

namespace {

using namespace sluiced;

TEST_CASE("an ext4 with a journal says how data is ordered with it") {
  CHECK(has_journal("rw\nbsddf\ndelalloc\ndata=ordered\ndiscard\n"));
  CHECK(has_journal("data=journal\n"));
  CHECK_FALSE(has_journal("rw\nbsddf\nno_data=1\nmax_batch_time=15000us\n"));
  CHECK_FALSE(has_journal(""));
}

TEST_CASE("what cannot be asked is in no doubt") {
  CHECK_FALSE(durability_doubt("/proc").has_value());
  CHECK_FALSE(durability_doubt("/no/such/directory").has_value());
}

}  // namespace
