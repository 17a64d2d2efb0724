#include "child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>

namespace bench {

namespace {

using clock = std::chrono::steady_clock;

struct pipes {
  std::array<int, 2> out{-1, -1};
  std::array<int, 2> go{-1, -1};      // the child waits for its end before it execs
  std::array<int, 2> failed{-1, -1};  // closed by a successful exec, else carries errno
};

// Only async-signal-safe calls: the parent may have threads.
[[noreturn]] void become(char* const* arguments, const pipes& ends, bool quiet) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  char nothing = 0;
  ::close(ends.go[1]);
  while (::read(ends.go[0], &nothing, 1) < 0 && errno == EINTR) continue;
  ::dup2(ends.out[1], STDOUT_FILENO);
  if (quiet) {
    const int null = ::open("/dev/null", O_WRONLY);
    if (null >= 0) ::dup2(null, STDERR_FILENO);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(arguments[0], arguments);
  const int problem = errno;
  if (::write(ends.failed[1], &problem, sizeof problem) < 0) _exit(126);
  _exit(127);
}

bool open_pipes(pipes& ends) {
  return ::pipe2(ends.out.data(), O_CLOEXEC) == 0 && ::pipe2(ends.go.data(), O_CLOEXEC) == 0 &&
         ::pipe2(ends.failed.data(), O_CLOEXEC) == 0;
}

}  // namespace

std::expected<child, std::string> child::start(const std::vector<std::string>& arguments,
                                               const child_options& options) {
  pipes ends;
  if (!open_pipes(ends)) return std::unexpected(fmt::format("pipe: {}", std::strerror(errno)));
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) become(pointers.data(), ends, options.quiet);
  ::close(ends.out[1]);
  ::close(ends.go[0]);
  ::close(ends.failed[1]);
  if (pid > 0 && options.before_exec) options.before_exec(pid);
  ::close(ends.go[1]);
  int problem = pid < 0 ? errno : 0;
  if (pid > 0 && ::read(ends.failed[0], &problem, sizeof problem) <= 0) problem = 0;
  ::close(ends.failed[0]);
  child made(pid, ends.out[0]);
  if (problem != 0) {
    return std::unexpected(fmt::format("{}: {}", arguments[0], std::strerror(problem)));
  }
  return made;
}

child::child(child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      out_(std::exchange(other.out_, -1)),
      read_(std::move(other.read_)) {}

child& child::operator=(child&& other) noexcept {
  child taken(std::move(other));
  std::swap(pid_, taken.pid_);
  std::swap(out_, taken.out_);
  std::swap(read_, taken.read_);
  return *this;
}

child::~child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    reap(clock::now() + std::chrono::seconds(10));
  }
  if (out_ >= 0) ::close(out_);
}

void child::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

bool child::read_more(clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
  pollfd waiting{out_, POLLIN, 0};
  const auto wait = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
  if (::poll(&waiting, 1, wait) <= 0) return false;
  std::array<char, 4096> piece;
  const ssize_t got = ::read(out_, piece.data(), piece.size());
  if (got <= 0) return false;
  read_.append(piece.data(), static_cast<std::size_t>(got));
  return true;
}

std::optional<std::string> child::read_line(std::chrono::milliseconds timeout) {
  const auto deadline = clock::now() + timeout;
  std::size_t end = read_.find('\n');
  while (end == std::string::npos) {
    if (!read_more(deadline)) return std::nullopt;
    end = read_.find('\n');
  }
  std::string line = read_.substr(0, end);
  read_.erase(0, end + 1);
  return line;
}

int child::reap(clock::time_point deadline) {
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(pid_, &status, WNOHANG)) == 0) {
    if (clock::now() > deadline) {
      ::kill(pid_, SIGKILL);
      ended = ::waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  pid_ = -1;
  if (ended < 0) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int child::finish(std::chrono::milliseconds timeout) {
  const auto deadline = clock::now() + timeout;
  while (read_more(deadline)) continue;
  return reap(deadline);
}

std::optional<std::string> output_of(const std::vector<std::string>& arguments,
                                     std::chrono::milliseconds timeout) {
  child_options options;
  options.quiet = true;
  auto running = child::start(arguments, options);
  if (!running || running->finish(timeout) != 0) return std::nullopt;
  return running->output();
}

std::optional<std::string> find_program(const std::string& name,
                                        const std::vector<std::string>& directories) {
  std::vector<std::string> places = directories;
  if (const char* path = std::getenv("PATH")) {
    std::istringstream entries(path);
    for (std::string entry; std::getline(entries, entry, ':');) places.push_back(entry);
  }
  for (const char* place : {"/usr/sbin", "/usr/local/sbin", "/sbin"}) places.emplace_back(place);
  for (const std::string& place : places) {
    std::string full = place + "/" + name;
    if (::access(full.c_str(), X_OK) == 0) return full;
  }
  return std::nullopt;
}

}  // namespace bench
