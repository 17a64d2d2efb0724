#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "support/skips.hpp"

// doctest knows no test that finds out while it runs that it cannot be shown here: a program that
// could show nothing ends with 77, as meson expects of a skipped test.
int main(int argc, char** argv) {
  const int status = doctest::Context(argc, argv).run();
  return status == 0 && support::only_skipped() ? 77 : status;
}
