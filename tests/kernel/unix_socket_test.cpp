#include "kernel/unix_socket.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "support/process_counts.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using kernel::socket_mode;
using kernel::unix_listener;

// Below the working directory: a build folder's absolute name may be too long for a sun_path.
std::string short_path(const support::temp_dir& in, std::string_view name) {
  return std::filesystem::relative(in.path() / name).string();
}

result<unix_listener> listen_at(const std::string& path) {
  return unix_listener::open(path, socket_mode::blocking, 4);
}

kernel::unique_fd connected_to(const std::string& path) {
  kernel::unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncat(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    fd.reset();
  return fd;
}

// What a killed process leaves: a name that nobody listens at.
void leave_dead_socket(const std::string& path) {
  const kernel::unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncat(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
}

mode_t permissions_of(const std::string& path) {
  struct stat found{};
  REQUIRE(::lstat(path.c_str(), &found) == 0);
  return found.st_mode & 07777;
}

TEST_CASE("the name has mode 0600 whatever the umask, and is gone at the end") {
  const support::temp_dir dir;
  const std::string path = short_path(dir, "s");
  for (const mode_t mask : {0000, 0022, 0077}) {
    CAPTURE(mask);
    const mode_t before = ::umask(mask);
    {
      const result<unix_listener> made = listen_at(path);
      ::umask(before);
      REQUIRE(made);
      CHECK(permissions_of(path) == 0600);
      CHECK(dir.entry_count() == 1);
      CHECK(connected_to(path));
    }
    CHECK(dir.entry_count() == 0);
  }
}

TEST_CASE("a live socket keeps its name; a dead one loses it") {
  const support::temp_dir dir;
  const std::string path = short_path(dir, "s");
  leave_dead_socket(path);
  const result<unix_listener> first = listen_at(path);
  REQUIRE(first);
  CHECK(permissions_of(path) == 0600);
  const result<unix_listener> second = listen_at(path);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == EADDRINUSE);
  CHECK(connected_to(path));
  CHECK(dir.entry_count() == 1);
}

TEST_CASE("a socket whose backlog is full is a live one") {
  const support::temp_dir dir;
  const std::string path = short_path(dir, "s");
  const result<unix_listener> busy = unix_listener::open(path, socket_mode::blocking, 0);
  REQUIRE(busy);
  const kernel::unique_fd caller = connected_to(path);  // the one that fits
  CHECK(listen_at(path).error().code == EADDRINUSE);
}

TEST_CASE("what is no socket is never touched") {
  const support::temp_dir dir;
  dir.write("file", "precious");
  std::filesystem::create_directory(dir.path() / "folder");
  std::filesystem::create_symlink("file", dir.path() / "link");
  std::filesystem::create_symlink("nowhere", dir.path() / "dangling");
  for (const char* name : {"file", "folder", "link", "dangling"}) {
    CAPTURE(name);
    CHECK(listen_at(short_path(dir, name)).error().code == EEXIST);
  }
  CHECK(dir.read("file") == "precious");
  CHECK(dir.entry_count() == 4);
}

TEST_CASE("of many starters at a dead socket's name exactly one gets it") {
  const support::temp_dir dir;
  const std::string path = short_path(dir, "s");
  for (int round = 0; round < 20; ++round) {
    leave_dead_socket(path);
    std::vector<std::optional<unix_listener>> made(4);
    std::atomic<int> unexpected{0};
    {
      std::vector<std::jthread> starters;
      for (auto& place : made)
        starters.emplace_back([&] {
          result<unix_listener> one = listen_at(path);
          if (one)
            place.emplace(std::move(*one));
          else if (one.error().code != EADDRINUSE)
            ++unexpected;
        });
    }
    CHECK(unexpected == 0);
    CHECK(std::ranges::count_if(made, [](const auto& m) { return m.has_value(); }) == 1);
    CHECK(connected_to(path));
    CHECK(dir.entry_count() == 1);
    made.clear();
    CHECK(dir.entry_count() == 0);
  }
}

TEST_CASE("a name that has become another's is left alone at the end") {
  const support::temp_dir dir;
  const std::string path = short_path(dir, "s");
  {
    const result<unix_listener> made = listen_at(path);
    REQUIRE(made);
    std::filesystem::remove(path);
    dir.write("s", "another's");
  }
  CHECK(dir.read("s") == "another's");
}

TEST_CASE("paths that cannot be bound are refused and leave nothing behind") {
  const support::temp_dir dir;
  const std::size_t fds = support::fd_count();
  CHECK(listen_at("").error().code == EINVAL);
  CHECK(listen_at(std::string("a\0b", 3)).error().code == EINVAL);
  CHECK(listen_at(std::string(101, 'x')).error().code == ENAMETOOLONG);
  CHECK(listen_at(short_path(dir, "no/such")).error().code == ENOENT);
  CHECK(dir.entry_count() == 0);
  CHECK(support::fd_count() == fds);
}

TEST_CASE("the peer's user is the one that connected") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const kernel::unique_fd a(ends[0]);
  const kernel::unique_fd b(ends[1]);
  CHECK(kernel::peer_user(a.get()).value() == ::geteuid());
  CHECK_FALSE(kernel::peer_user(-1));
}

}  // namespace
