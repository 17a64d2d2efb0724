#include "base/assert.hpp"

#include <doctest/doctest.h>

#include "support/dies.hpp"

namespace {

using namespace sluice;

TEST_CASE("what holds goes on, what does not aborts, in release builds too") {
  base::require(true, "never said");
  CHECK_FALSE(support::aborts([] { base::require(true, "never said"); }));
  CHECK(support::aborts([] { base::require(false, "the rule"); }));
}

TEST_CASE("the rule that was broken is said on standard error") {
  const std::string said = support::last_words([] { base::broken("the rule was broken"); });
  CHECK(said == "sluice: the rule was broken\n");
}

}  // namespace
