#include <doctest/doctest.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "sluice/control.hpp"
#include "support/engine_fixture.hpp"
#include "support/process_counts.hpp"
#include "support/temp_dir.hpp"

namespace {

using namespace sluice;
using namespace std::chrono_literals;

// A client on a plain blocking socket; nothing waits for longer than 10 s.
class client {
 public:
  explicit client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{10, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncat(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() { ::close(fd_); }

  [[nodiscard]] bool connected() const { return connected_; }
  // False when the other end has gone before it took all.
  bool send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void end() const { ::shutdown(fd_, SHUT_WR); }
  // Up to and with an empty line, or until the other end closes.
  std::string answer() {
    std::size_t end = 0;
    while ((end = received_.find("\n\n")) == std::string::npos) {
      char some[4096];
      const ssize_t got = ::recv(fd_, some, sizeof some, 0);
      if (got <= 0) return std::exchange(received_, "");
      received_.append(some, static_cast<std::size_t>(got));
    }
    std::string first = received_.substr(0, end + 2);
    received_.erase(0, end + 2);
    return first;
  }
  std::string ask(std::string_view request) {
    send(std::string(request) + "\n");
    return answer();
  }

 private:
  int fd_;
  bool connected_ = false;
  std::string received_;
};

// Serves at a socket while `clients` runs on a thread of its own, then ends; all must be given
// back.
void while_serving(const std::string& backend, const control_options& options,
                   const std::function<void(const std::string& path)>& clients) {
  CAPTURE(backend);
  const support::temp_dir dir;
  const std::string path = std::filesystem::relative(dir.path() / "s").string();
  {
    support::engine_fixture fixture(backend);
    result<control_socket> made =
        control_socket::open(*fixture, path, control_of(*fixture), options);
    REQUIRE(made);
    const task_handle serving = fixture->spawn(serve(std::move(*made)));
    std::jthread others([&] {
      clients(path);
      fixture->post([&] { fixture->cancel(serving); });
    });
    fixture->run();
    CHECK(dir.entry_count() == 0);
    CHECK(fixture->task_count() == 0);
    others.join();
  }
}

void on_each_backend(const control_options& options,
                     const std::function<void(const std::string& path)>& clients) {
  for (const std::string& backend : support::backends()) while_serving(backend, options, clients);
}

TEST_CASE("a client gets, sets, lists, and sees counters grow, on one connection") {
  on_each_backend({}, [](const std::string& path) {
    client c(path);
    CHECK(c.ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
    CHECK(c.ask("set sluice.receive.depth 5") == "sluice.receive.depth = 5\n\n");
    CHECK(c.ask("get sluice.receive.depth\r") == "sluice.receive.depth = 5\n\n");
    CHECK(c.ask("set sluice.receive.depth 100000").starts_with("error: "));
    CHECK(c.ask("get sluice.receive.depth") == "sluice.receive.depth = 5\n\n");
    CHECK(c.ask("set sluice.backend pool") ==
          "error: sluice.backend: can only be set before the engine starts\n\n");
    CHECK(c.ask("list").size() > 1000);
    CHECK(c.ask("probe").starts_with("backend = "));
    const std::string before = c.ask("stats");
    CHECK(c.ask("stats") != before);
  });
}

TEST_CASE("the socket file has mode 0600 while it is served") {
  on_each_backend({}, [](const std::string& path) {
    struct stat found{};
    REQUIRE(::lstat(path.c_str(), &found) == 0);
    CHECK(S_ISSOCK(found.st_mode));
    CHECK((found.st_mode & 07777) == 0600);
  });
}

TEST_CASE("several requests in one piece are all answered, also after the end of sending") {
  on_each_backend({}, [](const std::string& path) {
    client c(path);
    c.send("get sluice.receive.depth\nnonsense\nget sluice.send.depth\n");
    c.end();
    CHECK(c.answer() == "sluice.receive.depth = 16\n\n");
    CHECK(c.answer().starts_with("error: expected one of"));
    CHECK(c.answer() == "sluice.send.depth = 4\n\n");
    CHECK(c.answer().empty());
  });
}

TEST_CASE("a request may arrive byte by byte") {
  on_each_backend({}, [](const std::string& path) {
    client c(path);
    for (const char byte : std::string_view("get sluice.receive.depth\n"))
      c.send(std::string_view(&byte, 1));
    CHECK(c.answer() == "sluice.receive.depth = 16\n\n");
  });
}

TEST_CASE("half a request changes nothing, whether the client ends or dawdles") {
  control_options options;
  options.line_timeout = 50ms;
  on_each_backend(options, [](const std::string& path) {
    {
      client ends(path);
      ends.send("set sluice.receive.depth 7");
      ends.end();
      CHECK(ends.answer() == "error: the line did not end\n\n");
    }
    {
      client dawdles(path);
      dawdles.send("set sluice.receive.depth 7");
      CHECK(dawdles.answer() == "error: the line did not end in time\n\n");
    }
    {
      client(path).send("set sluice.receive.depth 7");
    }  // gone at once
    CHECK(client(path).ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
  });
}

TEST_CASE("a client that begins no request is closed after the idle time") {
  control_options options;
  options.idle_timeout = 50ms;
  on_each_backend(options, [](const std::string& path) {
    client c(path);
    CHECK(c.answer().empty());
  });
}

TEST_CASE("a line of 1 MiB is refused, read or not, and others are served meanwhile") {
  on_each_backend({}, [](const std::string& path) {
    client other(path);
    client c(path);
    c.send(std::string(1 << 20, 'x'));
    CHECK(other.ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
    CHECK(c.answer() == "error: the line is too long\n\n");
    CHECK(c.answer().empty());
  });
}

TEST_CASE("the longest line is served and one byte more is not") {
  on_each_backend({}, [](const std::string& path) {
    const std::string longest = "get " + std::string(control_line_bytes_max - 5, 'x');
    CHECK(client(path).ask(longest).contains("is no knob"));
    CHECK(client(path).ask(longest + "x") == "error: the line is too long\n\n");
  });
}

TEST_CASE("garbage is answered line by line or refused, and the next client is served") {
  on_each_backend({}, [](const std::string& path) {
    std::string garbage;
    for (unsigned seed = 1, i = 0; i < 100'000; ++i) {
      seed = seed * 1103515245 + 12345;
      garbage += static_cast<char>(seed >> 16);
    }
    {
      client c(path);
      std::jthread reader([&c] {
        while (!c.answer().empty()) continue;
      });
      c.send(garbage);
      c.end();
    }
    CHECK(client(path).ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
  });
}

TEST_CASE("a client that reads no answers is closed in time and holds up nobody") {
  control_options options;
  options.line_timeout = 100ms;
  on_each_backend(options, [](const std::string& path) {
    client deaf(path);
    std::string requests;
    for (int i = 0; i < 200'000; ++i) requests += "list\n";
    CHECK_FALSE(deaf.send(requests));
    CHECK(client(path).ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n");
  });
}

TEST_CASE("clients are served side by side up to the limit, one more is told") {
  control_options options;
  options.clients_max = 2;
  on_each_backend(options, [](const std::string& path) {
    client first(path);
    CHECK(first.ask("set sluice.receive.depth 9") == "sluice.receive.depth = 9\n\n");
    {
      client second(path);
      CHECK(second.ask("get sluice.receive.depth") == "sluice.receive.depth = 9\n\n");
      CHECK(first.ask("get sluice.receive.depth") == "sluice.receive.depth = 9\n\n");
      CHECK(client(path).answer() == "error: too many clients, try again later\n\n");
    }
    CHECK(support::comes_true([&path] {
      return client(path).ask("get sluice.receive.depth") == "sluice.receive.depth = 9\n\n";
    }));
  });
}

TEST_CASE("connections that come and go at once leave nothing behind") {
  on_each_backend({}, [](const std::string& path) {
    for (int i = 0; i < 200; ++i) CHECK(client(path).connected());
    CHECK(support::comes_true([&path] {
      return client(path).ask("get sluice.receive.depth") == "sluice.receive.depth = 16\n\n";
    }));
  });
}

TEST_CASE("the end closes clients in the middle of a request") {
  const support::temp_dir dir;
  const std::string path = std::filesystem::relative(dir.path() / "s").string();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture fixture(backend);
    result<control_socket> made = control_socket::open(*fixture, path, control_of(*fixture));
    REQUIRE(made);
    const task_handle serving = fixture->spawn(serve(std::move(*made)));
    std::jthread others([&] {
      const client a(path);
      client b(path);
      CHECK(b.ask("get sluice.receive.depth").starts_with("sluice"));
      a.send("get slu");
      b.send("get slu");
      fixture->post([&] { fixture->cancel(serving); });
      CHECK(b.answer().empty());
    });
    fixture->run();
    others.join();
    CHECK(dir.entry_count() == 0);
  }
}

TEST_CASE("an engine that ends ends its control socket") {
  const support::temp_dir dir;
  const std::string path = std::filesystem::relative(dir.path() / "s").string();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture fixture(backend);
    result<control_socket> made = control_socket::open(*fixture, path, control_of(*fixture));
    REQUIRE(made);
    fixture->spawn(serve(std::move(*made)));
    {
      const client c(path);
      c.send("get slu");
      for (int turn = 0; turn < 3; ++turn) fixture->run_once(10ms);
    }
    fixture.finish();
    CHECK(dir.entry_count() == 0);
  }
}

TEST_CASE("a control socket that is never served goes with its object, and none opens beside it") {
  const support::temp_dir dir;
  const std::string path = std::filesystem::relative(dir.path() / "s").string();
  for (const std::string& backend : support::backends()) {
    CAPTURE(backend);
    support::engine_fixture fixture(backend);
    {
      const result<control_socket> made =
          control_socket::open(*fixture, path, control_of(*fixture));
      REQUIRE(made);
      CHECK(control_socket::open(*fixture, path, control_of(*fixture)).error().code == EADDRINUSE);
      CHECK(dir.entry_count() == 1);
    }
    CHECK(dir.entry_count() == 0);
  }
}

// From a child of another user, that goes in by its working directory: the parents of `folder` may
// be closed to it.
std::string ask_as_nobody(const std::filesystem::path& folder, const std::string& name) {
  constexpr uid_t nobody = 65534;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::chdir(folder.c_str()) != 0) _exit(1);
    if (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0 || ::setuid(nobody) != 0) _exit(1);
    client c(name);
    const std::string said = c.connected() ? c.ask("list") : std::string(::strerror(errno));
    [[maybe_unused]] const auto told = ::write(ends[1], said.data(), said.size());
    _exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char some[256];
  for (ssize_t got = 0; (got = ::read(ends[0], some, sizeof some)) > 0;)
    said.append(some, static_cast<std::size_t>(got));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return said;
}

TEST_CASE("another user is refused by the mode, and by the credentials where the mode was opened") {
  if (::geteuid() != 0) {
    MESSAGE("needs root to be another user");
    return;
  }
  on_each_backend({}, [](const std::string& path) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    ::chmod(folder.c_str(), 0755);
    CHECK(ask_as_nobody(folder, "s") == "Permission denied");
    ::chmod(path.c_str(), 0666);
    CHECK(ask_as_nobody(folder, "s") ==
          "error: not permitted: this socket serves its own user and root\n\n");
  });
}

}  // namespace
