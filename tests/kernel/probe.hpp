// Helpers of the kernel probes. A probe shows one fact of kernel-notes/ on the running kernel and
// exits with 0 when the kernel behaves so, 1 when it behaves otherwise, 77 when it cannot be shown.
//
//   run, in_child, as_ordinary_user   carry the body out and turn its verdict into an exit status
//   expect, expect_equal, fail, skip  end the body with a verdict
//   descriptor, temp_dir              owners: whatever the verdict, nothing is left behind
//   socket_pair, tcp_pair, pipe_pair  connected ends
//   ring                              an io_uring that waits with a limit and counts in plain ints
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace probe {

// Longer than any probe runs on a loaded machine: what takes longer hangs, and a hang is a failure.
inline constexpr unsigned deadline_s = 30;
inline constexpr int patience_ms = 10'000;

// What ends a probe early. Thrown, so that the owners below clean up on the way out.
struct verdict {
  int exit_status;
  std::string reason;
};

[[noreturn]] inline void fail(std::string reason) { throw verdict{1, std::move(reason)}; }
[[noreturn]] inline void skip(std::string reason) { throw verdict{77, std::move(reason)}; }

// A result in the kernel's manner, a count or -errno, in words.
inline std::string in_words(long result) {
  std::string text = std::to_string(result);
  if (result < 0 && result > -4096) {
    const char* name = ::strerrorname_np(static_cast<int>(-result));
    if (name != nullptr) text += std::string(" (") + name + ")";
  }
  return text;
}

// The result of a system call as a CQE would carry it.
inline long result_of(long returned) { return returned < 0 ? -errno : returned; }

inline void expect(bool shown, std::string_view what) {
  if (!shown) fail("not so: " + std::string(what));
}

inline void expect_equal(long got, long wanted, std::string_view what) {
  if (got != wanted) {
    fail(std::string(what) + ": got " + in_words(got) + ", expected " + in_words(wanted));
  }
}

// For steps that lead up to the fact and do not belong to it.
inline long must(long returned, std::string_view what) {
  if (returned < 0) fail(std::string(what) + ": " + in_words(result_of(returned)));
  return returned;
}

template <class Body>
int run(Body&& body) {
  ::alarm(deadline_s);
  try {
    body();
  } catch (const verdict& v) {
    std::fprintf(stderr, "%s: %s\n", v.exit_status == 77 ? "skipped" : "FAILED", v.reason.c_str());
    return v.exit_status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "FAILED: %s\n", e.what());
    return 1;
  }
  return 0;
}

// Runs the body in a child and passes its verdict on: users, limits, filters and mounts that the
// body changes end with the child.
template <class Body>
void in_child(Body&& body) {
  const pid_t child = static_cast<pid_t>(must(::fork(), "fork"));
  if (child == 0) ::_exit(run(body));
  int status = 0;
  must(::waitpid(child, &status, 0), "waitpid");
  if (!WIFEXITED(status)) fail("the child was ended by signal " + std::to_string(WTERMSIG(status)));
  if (WEXITSTATUS(status) == 77) skip("for the reason that the child gave");
  if (WEXITSTATUS(status) != 0) fail("for the reason that the child gave");
}

// Gives up root for good, for a user id that nothing else uses: limits that the kernel counts per
// user are then not shared with a program that runs beside the probe. Call it inside in_child.
inline void become_ordinary_user() {
  if (::geteuid() != 0) return;
  must(::setgroups(0, nullptr), "setgroups");
  for (const unsigned id : {static_cast<unsigned>(1'000'000 + ::getpid()), 65534U}) {
    // EINVAL: a user namespace that does not map this id.
    if (::setresgid(id, id, id) == 0 && ::setresuid(id, id, id) == 0) return;
  }
  skip("no ordinary user to become: " + in_words(-errno));
}

class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { close(); }

  int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// A directory for the probe alone, in TMPDIR, the current directory or /var/tmp, whichever lets us
// write first. Removed at the end, by the process that made it.
class temp_dir {
 public:
  temp_dir() {
    const char* configured = std::getenv("TMPDIR");
    for (const char* parent : {configured, ".", "/var/tmp"}) {
      if (parent == nullptr || *parent == '\0') continue;
      std::string name = std::string(parent) + "/sluice-probe-XXXXXX";
      if (::mkdtemp(name.data()) == nullptr) continue;
      path_ = std::filesystem::absolute(name);
      fd_ = descriptor(static_cast<int>(must(
          ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open of the directory")));
      return;
    }
    skip("no directory to write in: set TMPDIR");
  }
  temp_dir(const temp_dir&) = delete;
  temp_dir& operator=(const temp_dir&) = delete;
  ~temp_dir() {
    std::error_code ignored;
    if (owner_ == ::getpid()) std::filesystem::remove_all(path_, ignored);
  }

  int fd() const { return fd_.get(); }
  const std::filesystem::path& path() const { return path_; }

  // A new file without a name, open for reading and writing.
  descriptor unnamed_file() const {
    const int fd = ::openat(fd_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) skip("O_TMPFILE is not supported here");
    return descriptor(static_cast<int>(must(fd, "open with O_TMPFILE")));
  }

 private:
  std::filesystem::path path_;
  descriptor fd_;
  pid_t owner_ = ::getpid();
};

// Switches O_DIRECT on, or skips: the filesystem here may know no direct I/O.
inline void make_direct(int fd) {
  const int flags = static_cast<int>(must(::fcntl(fd, F_GETFL), "F_GETFL"));
  if (::fcntl(fd, F_SETFL, flags | O_DIRECT) < 0) {
    skip("O_DIRECT is refused by this filesystem: " + in_words(-errno));
  }
}

// Page-aligned zeroed memory.
class pages {
 public:
  explicit pages(std::size_t bytes)
      : bytes_(bytes),
        data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (data_ == MAP_FAILED) fail("mmap: " + in_words(-errno));
  }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  ~pages() { ::munmap(data_, bytes_); }

  char* data() const { return static_cast<char*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_;
};

using descriptor_pair = std::pair<descriptor, descriptor>;

inline descriptor_pair socket_pair(int type = SOCK_STREAM) {
  int ends[2];
  must(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), "socketpair");
  return {descriptor(ends[0]), descriptor(ends[1])};
}

// Read end first.
inline descriptor_pair pipe_pair() {
  int ends[2];
  must(::pipe2(ends, O_CLOEXEC), "pipe2");
  return {descriptor(ends[0]), descriptor(ends[1])};
}

inline sockaddr_in loopback(std::uint16_t port_in_network_order = 0) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = port_in_network_order;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A listener on a free loopback port; its address is written to *bound.
inline descriptor tcp_listener(sockaddr_in* bound, int type_flags = 0) {
  descriptor listener(static_cast<int>(
      must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0), "socket")));
  *bound = loopback();
  socklen_t size = sizeof *bound;
  must(::bind(listener.get(), reinterpret_cast<sockaddr*>(bound), size), "bind");
  must(::listen(listener.get(), 16), "listen");
  must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(bound), &size), "getsockname");
  return listener;
}

inline descriptor tcp_socket() {
  return descriptor(
      static_cast<int>(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")));
}

inline void tcp_connect(int fd, const sockaddr_in& address) {
  must(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
}

// Accepted end first.
inline descriptor_pair tcp_pair() {
  sockaddr_in bound{};
  const descriptor listener = tcp_listener(&bound);
  descriptor near = tcp_socket();
  tcp_connect(near.get(), bound);
  descriptor far(
      static_cast<int>(must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept4")));
  return {std::move(far), std::move(near)};
}

struct completion {
  std::uint64_t user_data;
  int result;
  unsigned flags;
};

class ring {
 public:
  explicit ring(unsigned entries = 8, unsigned setup_flags = 0) {
    const int refused = ::io_uring_queue_init(entries, &ring_, setup_flags);
    if (refused < 0)
      skip("no ring with flags " + std::to_string(setup_flags) + ": " + in_words(refused));
  }
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { ::io_uring_queue_exit(&ring_); }

  io_uring* get() { return &ring_; }
  int fd() const { return ring_.ring_fd; }

  // Skips when the running kernel's ring does not know the opcode.
  void require(int opcode, std::string_view name) {
    io_uring_probe* known = ::io_uring_get_probe_ring(&ring_);
    const bool present = known != nullptr && ::io_uring_opcode_supported(known, opcode) != 0;
    ::io_uring_free_probe(known);
    if (!present) skip(std::string(name) + " is not known to this kernel");
  }

  // prepare(sqe) fills the entry; flags are IOSQE_*.
  template <class Prepare>
  void queue(std::uint64_t user_data, Prepare&& prepare, unsigned flags = 0) {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    expect(sqe != nullptr, "the submission queue has room");
    prepare(sqe);
    sqe->flags = static_cast<std::uint8_t>(sqe->flags | flags);
    sqe->user_data = user_data;
  }

  int submit() { return static_cast<int>(must(::io_uring_submit(&ring_), "io_uring_submit")); }

  // The next completion, or nothing after limit_ms. Enters the kernel.
  std::optional<completion> wait_for(int limit_ms) {
    io_uring_cqe* cqe = nullptr;
    __kernel_timespec limit{.tv_sec = limit_ms / 1000, .tv_nsec = limit_ms % 1000 * 1'000'000LL};
    int waited = 0;
    do {
      waited = ::io_uring_wait_cqe_timeout(&ring_, &cqe, &limit);
    } while (waited == -EINTR);
    if (waited == -ETIME) return std::nullopt;
    if (waited < 0) fail("io_uring_wait_cqe_timeout: " + in_words(waited));
    const completion seen{cqe->user_data, cqe->res, cqe->flags};
    ::io_uring_cqe_seen(&ring_, cqe);
    return seen;
  }

  completion wait() {
    const auto seen = wait_for(patience_ms);
    if (!seen) fail("no completion came");
    return *seen;
  }

  // One op alone: its result.
  template <class Prepare>
  int perform(Prepare&& prepare, unsigned flags = 0) {
    queue(0, prepare, flags);
    submit();
    return wait().result;
  }

 private:
  io_uring ring_{};
};

// Waits until a socket, pipe or epoll descriptor is ready, for limit_ms at most.
inline bool becomes_ready(int fd, short events, int limit_ms) {
  pollfd waited{.fd = fd, .events = events, .revents = 0};
  return must(::poll(&waited, 1, limit_ms), "poll") > 0;
}

inline void send_all(int fd, std::string_view bytes) {
  expect_equal(result_of(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL)),
               static_cast<long>(bytes.size()), "send");
}

}  // namespace probe
