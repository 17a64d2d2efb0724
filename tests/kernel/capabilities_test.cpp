#include "kernel/capabilities.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

namespace {

using namespace sluice::kernel;

TEST_CASE("what trying showed is noted, with the reason only where it is absent") {
  capability_table table;
  CHECK(table.add("one", true, "never shown"));
  CHECK_FALSE(table.add("two", false, "EINVAL: refused"));
  REQUIRE(table.rows().size() == 2);
  CHECK(table.rows()[0].name == "one");
  CHECK(table.rows()[0].reason.empty());
  CHECK(table.rows()[1].reason == "EINVAL: refused");
  CHECK(table.present("one"));
  CHECK_FALSE(table.present("two"));
  CHECK_FALSE(table.present("never added"));
}

TEST_CASE("a hidden capability is absent, says why, and one that is absent keeps its own reason") {
  capability_table table("one, ring.op.two ,,three,");
  CHECK_FALSE(table.add("one", true));
  CHECK(table.rows()[0].reason == "hidden by sluice.capabilities.hidden");
  CHECK_FALSE(table.add("ring.op.two", true));
  CHECK_FALSE(table.add("three", false, "ENOSYS"));
  CHECK(table.rows()[2].reason == "ENOSYS");
  CHECK(table.add("four", true));
  CHECK(table.hidden("ring.op.two"));
  CHECK_FALSE(table.hidden("ring.op"));  // whole names only
  CHECK_FALSE(table.hidden(""));
}

TEST_CASE("a list without names hides nothing") {
  for (const char* list : {"", " ", ",", " , ,"}) {
    CAPTURE(list);
    capability_table table(list);
    CHECK(table.add("one", true));
    CHECK_FALSE(table.hidden(""));
  }
}

TEST_CASE("why a ring was refused begins with the error's name and goes on in words") {
  for (const int refusal : {EPERM, ENOSYS, ENOMEM, EMFILE, ENFILE, EINVAL}) {
    const std::string reason = ring_refusal_reason(refusal);
    CAPTURE(reason);
    CHECK(reason.starts_with("E"));
    CHECK(reason.find(": ") != std::string::npos);
    CHECK(reason.size() > 15);
  }
  CHECK(ring_refusal_reason(ENOSYS).find("seccomp") != std::string::npos);
  CHECK(ring_refusal_reason(ENOMEM).find("RLIMIT_MEMLOCK") != std::string::npos);
}

TEST_CASE("trying is harmless and gives the same answer twice") {
  CHECK(try_openat2() == try_openat2());
  CHECK(try_proc_self_fd() == try_proc_self_fd());
}

}  // namespace
