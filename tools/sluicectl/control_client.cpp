#include "control_client.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <stdexcept>

namespace sluicectl {

namespace {

constexpr timeval patience{10, 0};
constexpr std::size_t line_bytes_max = 64 * 1024;
constexpr std::size_t lines_max = 10'000;

std::string_view explain_connect(int refusal) {
  switch (refusal) {
    case ENOENT: return "there is no such socket";
    case ECONNREFUSED: return "nothing listens there";
    case EACCES:
    case EPERM: return "only its own user and root may speak to it";
    case ENOTDIR: return "there is no such directory";
    case EPROTOTYPE: return "this is no control socket";
    default: return "";
  }
}

}  // namespace

control_client::control_client(std::string path) : path_(std::move(path)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.empty() || path_.size() >= sizeof address.sun_path)
    give_up("the name of a socket has 1 to 107 bytes");
  path_.copy(address.sun_path, path_.size());
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) give_up(strerror(errno));
  // Before connect(2), which waits as long as SO_SNDTIMEO says when the backlog is full.
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return;
  const int refusal = errno;
  close(fd_);
  const std::string_view why = explain_connect(refusal);
  give_up(why.empty() ? strerror(refusal) : why);
}

control_client::~control_client() { close(fd_); }

std::expected<std::vector<std::string>, std::string> control_client::ask(std::string_view request) {
  send(std::string(request) + "\n");
  std::vector<std::string> lines;
  for (std::string line = receive_line(); !line.empty(); line = receive_line()) {
    if (lines.size() == lines_max) give_up("the answer does not end");
    lines.push_back(std::move(line));
  }
  constexpr std::string_view refused = "error: ";
  if (lines.size() == 1 && lines[0].starts_with(refused))
    return std::unexpected(lines[0].substr(refused.size()));
  return lines;
}

std::vector<std::string> control_client::need(std::string_view request) {
  auto answer = ask(request);
  if (!answer) give_up(answer.error());
  return *std::move(answer);
}

void control_client::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    // Refused before it could ask: the reason lies there to be read.
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
    if (sent < 0) give_up(errno == EAGAIN ? "no answer in time" : strerror(errno));
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string control_client::receive_line() {
  std::size_t end = 0;
  while ((end = received_.find('\n')) == received_.npos) {
    if (received_.size() > line_bytes_max) give_up("this is no control socket");
    char some[4096];
    const ssize_t got = recv(fd_, some, sizeof some, 0);
    if (got < 0 && errno == EAGAIN) give_up("no answer in time");
    if (got <= 0) give_up("the process closed the connection");
    received_.append(some, static_cast<std::size_t>(got));
  }
  std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

void control_client::give_up(std::string_view what) const {
  throw std::runtime_error(fmt::format("--control {}: {}", path_, what));
}

std::pair<std::string_view, std::string_view> split_line(std::string_view line) {
  constexpr std::string_view equals = " = ";
  const std::size_t at = line.find(equals);
  if (at == line.npos) return {line, ""};
  return {line.substr(0, at), line.substr(at + equals.size())};
}

}  // namespace sluicectl
