// The zero-copy advice of the manual pages: splice from the socket into a pipe and from the pipe
// into the file. The second step copies into the page cache all the same.
//
// Fair settings: a thread and a pipe of 1 MiB for each connection (what an ordinary user may ask
// for), blocking calls, as much for each call as the pipe holds.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "object_loop.hpp"

namespace {

class pipe_pair {
 public:
  // The pipe is made when the first payload comes: an idle connection owns none.
  bool open() {
    if (output_) return true;
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    output_ = peer::owned_fd(ends[0]);
    input_ = peer::owned_fd(ends[1]);
    // Refused when the user's share of pipe memory is used up; the size it has serves as well.
    ::fcntl(input_.get(), F_SETPIPE_SZ, 1 << 20);
    const int held = ::fcntl(input_.get(), F_GETPIPE_SZ);
    capacity_ = held > 0 ? static_cast<std::size_t>(held) : 65536;
    return true;
  }
  int input() const { return input_.get(); }
  int output() const { return output_.get(); }
  std::size_t capacity() const { return capacity_; }

 private:
  peer::owned_fd input_;
  peer::owned_fd output_;
  std::size_t capacity_ = 0;
};

// Bytes moved; 0 at the end of the stream and on errors.
std::size_t splice_once(int from, int into, std::size_t bytes) {
  while (true) {
    const ssize_t moved =
        ::splice(from, nullptr, into, nullptr, bytes, SPLICE_F_MOVE | SPLICE_F_MORE);
    if (moved >= 0) return static_cast<std::size_t>(moved);
    if (errno != EINTR) return 0;
  }
}

// A pipe that still holds bytes after a failure ends with its connection.
bool move(int socket, int file, std::uint64_t length, pipe_pair& pipe) {
  if (length > 0 && !pipe.open()) return false;
  while (length > 0) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(length, pipe.capacity()));
    std::size_t held = splice_once(socket, pipe.input(), wanted);
    if (held == 0) return false;
    length -= held;
    while (held > 0) {
      const std::size_t written = splice_once(pipe.output(), file, held);
      if (written == 0) return false;
      held -= written;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  const peer::owned_fd dir = peer::open_dir(options);
  return peer::serve_with_threads(options, [&](int socket, std::uint64_t number) {
    pipe_pair pipe;
    peer::serve_objects(
        options, dir.get(), socket, number, O_WRONLY,
        [&](int from, int file, std::uint64_t length) { return move(from, file, length, pipe); });
  });
}
