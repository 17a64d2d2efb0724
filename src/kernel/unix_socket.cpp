#include "kernel/unix_socket.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace sluice::kernel {
namespace {

constexpr const char* where = "control socket";
// A name that comes and goes while we look at it, so often at most.
constexpr int rounds_max = 4;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  return address;
}

std::string name_beside(const std::string& path) {
  std::array<unsigned char, 3> random{};
  [[maybe_unused]] const auto bytes = ::getrandom(random.data(), random.size(), 0);
  std::string name = path + ".";
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  return name;
}

enum class resident { nobody, dead_socket, live_socket, no_socket };

// Who is at `path`. Asked without waiting: a full backlog (EAGAIN) is a live one's.
result<resident> who_is_at(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return resident::nobody;
    return fail(errno, "lstat", where);
  }
  // connect(2) says ECONNREFUSED to a regular file as well.
  if (!S_ISSOCK(found.st_mode)) return resident::no_socket;
  const unique_fd caller(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!caller) return fail(errno, "socket", where);
  const sockaddr_un address = address_of(path);
  if (::connect(caller.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return resident::live_socket;
  if (errno == ENOENT) return resident::nobody;
  return errno == ECONNREFUSED ? resident::dead_socket : resident::live_socket;
}

bool rename_to(const std::string& from, const std::string& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
}

}  // namespace

// Bound and listening under a name beside, then moved: at `path` there is never a socket that
// refuses because it does not listen yet, which another starter would take for a dead one's.
result<unix_listener> unix_listener::open(const std::string& path, socket_mode mode, int backlog) {
  if (path.empty() || path.find('\0') != path.npos) return fail(EINVAL, "bind", where);
  if (path.size() > unix_path_bytes_max) return fail(ENAMETOOLONG, "bind", where);
  std::error_code problem;
  const std::string absolute = std::filesystem::absolute(path, problem);
  if (problem) return fail(problem.value(), "getcwd", where);

  unix_listener made;
  if (const result<void> bound = made.bind_beside(path); !bound)
    return std::unexpected(bound.error());
  if (::listen(made.fd_.get(), backlog) != 0) return fail(errno, "listen", where);
  if (const result<void> set = set_mode(made.fd_.get(), mode); !set)
    return std::unexpected(set.error());
  if (const result<void> taken = made.take_name(path); !taken)
    return std::unexpected(taken.error());
  made.name_ = absolute;
  return made;
}

// The mode of a bound name is that of the socket's own inode less the umask (Linux,
// net/unix/af_unix.c, unix_bind_bsd), so it is narrowed before the name exists: to narrow it
// afterwards would leave a moment, and to set the umask would reach every thread's files.
result<void> unix_listener::bind_beside(const std::string& path) {
  fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd_) return fail(errno, "socket", where);
  // kernel-notes/unix_socket_mode_before_bind.md
  if (::fchmod(fd_.get(), S_IRUSR | S_IWUSR) != 0) return fail(errno, "fchmod", where);
  std::string beside;
  int refusal = EADDRINUSE;
  for (int round = 0; refusal == EADDRINUSE && round < rounds_max; ++round) {
    beside = name_beside(path);
    const sockaddr_un address = address_of(beside);
    const auto* bytes = reinterpret_cast<const sockaddr*>(&address);
    refusal = ::bind(fd_.get(), bytes, sizeof address) == 0 ? 0 : errno;
  }
  if (refusal != 0) return fail(refusal, "bind", where);
  name_ = std::move(beside);

  struct stat bound{};
  if (::lstat(name_.c_str(), &bound) != 0) return fail(errno, "lstat", where);
  device_ = bound.st_dev;
  inode_ = bound.st_ino;
  // Before listen(2), so nobody has got through; and not to be served if it ever comes to this.
  if ((bound.st_mode & (S_IRWXG | S_IRWXO)) != 0) return fail(EPERM, "fchmod", where);
  return {};
}

result<void> unix_listener::take_name(const std::string& path) {
  for (int round = 0; round < rounds_max; ++round) {
    if (rename_to(name_, path, RENAME_NOREPLACE)) return {};
    if (errno != EEXIST) return fail(errno, "renameat2", where);
    const result<resident> there = who_is_at(path);
    if (!there) return std::unexpected(there.error());
    if (*there == resident::no_socket) return fail(EEXIST, "bind", where);
    if (*there == resident::live_socket) return fail(EADDRINUSE, "bind", where);
    if (*there == resident::nobody) continue;
    const result<void> replaced = replace(path);
    if (replaced || replaced.error().code != ENOENT) return replaced;
  }
  return fail(EADDRINUSE, "bind", where);
}

// Another starter may have found the same dead socket and be here first. So the two names are
// exchanged, and what came out is looked at again: alive, and it gets its name back.
result<void> unix_listener::replace(const std::string& path) {
  if (!rename_to(name_, path, RENAME_EXCHANGE)) return fail(errno, "renameat2", where);
  const result<resident> taken_out = who_is_at(name_);
  if (taken_out && (*taken_out == resident::dead_socket || *taken_out == resident::nobody)) {
    ::unlink(name_.c_str());
    return {};
  }
  [[maybe_unused]] const bool restored = rename_to(name_, path, RENAME_EXCHANGE);
  return fail(EADDRINUSE, "bind", where);
}

unix_listener& unix_listener::operator=(unix_listener&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::move(other.fd_);
    name_ = std::move(other.name_);
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

void unix_listener::close() {
  if (!fd_) return;
  struct stat found{};
  const bool ours =
      ::lstat(name_.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_;
  if (ours) ::unlink(name_.c_str());
  fd_.reset();
}

result<uid_t> peer_user(int fd) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
    return fail(errno, "getsockopt", where);
  return peer.uid;
}

void send_now(int fd, std::string_view text) {
  [[maybe_unused]] const auto sent =
      ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace sluice::kernel
