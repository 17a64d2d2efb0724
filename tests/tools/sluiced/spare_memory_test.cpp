#include "spare_memory.hpp"

#include <doctest/doctest.h>

using sluiced::spare_memory;

TEST_CASE("memory is spare when many were busy and few are") {
  spare_memory m;
  m.note(10'000);
  CHECK_FALSE(m.is_left(10'000));
  CHECK_FALSE(m.is_left(1'251));
  CHECK(m.is_left(1'250));
  CHECK(m.is_left(0));
}

TEST_CASE("a few busy ones leave nothing to speak of") {
  spare_memory m;
  CHECK_FALSE(m.is_left(0));
  m.note(spare_memory::worthwhile - 1);
  CHECK_FALSE(m.is_left(0));
}

TEST_CASE("once it is given back it takes another rush") {
  spare_memory m;
  m.note(1'000);
  m.given_back(3);
  CHECK_FALSE(m.is_left(0));
  m.note(300);
  CHECK(m.is_left(20));
}
