// A descriptor of the test's as a stream of an engine.
#pragma once

#include <doctest/doctest.h>

#include <utility>

#include "sluice/engine.hpp"
#include "sluice/stream.hpp"

namespace support {

inline sluice::stream adopt(sluice::engine& e, int fd) {
  sluice::result<sluice::stream> made = sluice::stream::adopt(e, fd);
  REQUIRE(made.has_value());
  return std::move(*made);
}

}  // namespace support
