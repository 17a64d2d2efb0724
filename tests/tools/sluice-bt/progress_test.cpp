#include "progress.hpp"

#include <doctest/doctest.h>

TEST_CASE("the CPU time of the process grows with what it does") {
  const double before = bt::cpu_seconds();
  volatile unsigned spent = 0;
  while (bt::cpu_seconds() - before < 0.01) spent = spent + 1;
  CHECK(bt::cpu_seconds() > before);
}
