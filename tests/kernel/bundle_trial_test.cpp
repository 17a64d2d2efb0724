#include "kernel/bundle_trial.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "kernel/uapi.hpp"
#include "support/needs_ring.hpp"

TEST_CASE("bundles keep their order where the kernel says that it has them") {
  io_uring ring{};
  io_uring_params params{};
  REQUIRE(io_uring_queue_init_params(2, &ring, &params) == 0);
  io_uring_queue_exit(&ring);
  const std::string wrong = sluice::kernel::try_bundles();
  if ((params.features & sluice::uapi::feature_recvsend_bundle) != 0) {
    CHECK(wrong == "");
  } else {
    CHECK(wrong == "this kernel knows no bundles (Linux 6.10)");
  }
}

TEST_CASE("a trial that cannot be made says why") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const std::string wrong = sluice::kernel::try_bundles();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(wrong == "EMFILE: no ring for a trial");
}
