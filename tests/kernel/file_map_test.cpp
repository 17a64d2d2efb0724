#include "kernel/file_map.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "kernel/fd.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice::kernel;

TEST_CASE("a window at any offset shows the file, and what goes into it is in the file") {
  const support::temp_dir dir;
  dir.write("file", std::string(20'000, 'x'));
  const unique_fd fd(dir.open("file", O_RDWR));
  for (const std::uint64_t offset : {0U, 1U, 4096U, 5000U}) {
    auto window = file_map::make(fd.get(), offset, 10'000);
    REQUIRE(window.has_value());
    CHECK(window->bytes() == 10'000);
    const file_map moved(std::move(*window));
    std::memset(moved.data(), 'y', moved.bytes());
    char at[3];
    REQUIRE(::pread(fd.get(), at, 1, static_cast<off_t>(offset)) == 1);
    CHECK(at[0] == 'y');
    REQUIRE(::pread(fd.get(), at, 3, static_cast<off_t>(offset + 9'998)) == 3);
    CHECK(std::string(at, 3) == "yyx");
  }
}

TEST_CASE("a descriptor that cannot be mapped says why") {
  CHECK(file_map::make(-1, 0, 4096).error().code == EBADF);
  const support::temp_dir dir;
  dir.write("file", "x");
  const unique_fd fd(dir.open("file", O_RDONLY));
  CHECK(file_map::make(fd.get(), 0, 1).error().code == EACCES);
}

TEST_CASE("touching fresh memory is counted as faults") {
  const support::temp_dir dir;
  dir.write("file", std::string(1 << 20, 'x'));
  const unique_fd fd(dir.open("file", O_RDWR));
  const auto window = file_map::make(fd.get(), 0, 1 << 20);
  REQUIRE(window.has_value());
  const std::uint64_t before = faults_of_thread();
  std::memset(window->data(), 'z', window->bytes());
  CHECK(faults_of_thread() > before);
}

}  // namespace
