#include "sluice/result.hpp"

#include <doctest/doctest.h>

namespace {

using namespace sluice;

TEST_CASE("an error is described by operation, text, symbolic name and step") {
  CHECK(describe(error{ENOSPC, "write", "receive_to_file"}) ==
        "write: No space left on device (ENOSPC) in receive_to_file");
}

TEST_CASE("a code of sluice's own has its name and its text") {
  CHECK(describe(error{code::durability_unknown, "fdatasync", ""}) ==
        "fdatasync: a sync failed, what the disk holds is unknown (durability_unknown)");
}

TEST_CASE("an unknown code is said to be unknown") {
  CHECK(std::string(code_name(4242)) == "unknown error");
}

TEST_CASE("fail makes the failure side of any result") {
  const result<int> failed = fail(EIO, "fsync");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == EIO);
}

}  // namespace
