#include "kernel/pipe.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "support/all_given_back.hpp"

namespace {

using namespace sluice;
using namespace sluice::kernel;

TEST_CASE("a pipe has the size that was asked for, and both ends are non-blocking and private") {
  const support::all_given_back watch;
  for (const std::uint64_t bytes : {4096U, 65'536U, 262'144U}) {
    const result<kernel::pipe> made = kernel::pipe::make(bytes);
    REQUIRE(made.has_value());
    CHECK(made->bytes() == bytes);
    for (const int fd : {made->read_end(), made->write_end()}) {
      CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
      CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    }
  }
}

TEST_CASE("a size that the kernel refuses leaves a pipe of its own size") {
  const result<kernel::pipe> made = kernel::pipe::make(std::numeric_limits<std::uint64_t>::max());
  REQUIRE(made.has_value());
  CHECK(made->bytes() >= 4096);
}

TEST_CASE("a pipe says whether something is in it") {
  result<kernel::pipe> made = kernel::pipe::make(65'536);
  REQUIRE(made.has_value());
  CHECK(made->is_empty());
  REQUIRE(::write(made->write_end(), "abc", 3) == 3);
  CHECK_FALSE(made->is_empty());
  char bytes[3];
  REQUIRE(::read(made->read_end(), bytes, 2) == 2);
  CHECK_FALSE(made->is_empty());
  REQUIRE(::read(made->read_end(), bytes, 1) == 1);
  CHECK(made->is_empty());
  const kernel::pipe moved = std::move(*made);
  CHECK(moved.is_empty());
  CHECK_FALSE(made->is_empty());  // what cannot be asked is not known to be empty
}

TEST_CASE("without descriptors there is no pipe") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const result<kernel::pipe> made = kernel::pipe::make(65'536);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().code == EMFILE);
}

TEST_CASE("larger pipes are fewer for a user") {
  const std::uint64_t small = pipes_per_user(65'536);
  CHECK(small > 0);
  if (small == std::numeric_limits<std::uint64_t>::max()) return;  // no limit here
  CHECK(pipes_per_user(1 << 20) == small / 16);
  CHECK(pipes_per_user(1) == pipes_per_user(4096));
}

TEST_CASE("splice and sendfile are found where they are") {
  CHECK(try_splice() == 0);
  CHECK(try_sendfile() == 0);
}

}  // namespace
