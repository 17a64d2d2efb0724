// A thread for each connection: blocking recv of 256 KiB, write, the page cache.
//
// Fair settings: small stacks, so that thousands of threads fit; a buffer for each connection,
// taken when its first bytes are there, so that an idle connection costs its thread only; the
// length and the payload behind it come by the same recv.
#include <poll.h>

#include <memory>

#include "object_stream.hpp"

namespace {

bool wait_readable(int socket) {
  pollfd waits{socket, POLLIN, 0};
  while (::poll(&waits, 1, -1) < 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

void serve(const peer::settings& options, int dir, int socket, std::uint64_t number) {
  if (!wait_readable(socket)) return;
  const auto buffer = std::make_unique_for_overwrite<char[]>(options.block_bytes);
  peer::object_stream objects(options, dir, socket, number);
  while (true) {
    const ssize_t got = ::recv(socket, buffer.get(), options.block_bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || !objects.take(buffer.get(), static_cast<std::size_t>(got))) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  const peer::owned_fd dir = peer::open_dir(options);
  return peer::serve_with_threads(options, [&](int socket, std::uint64_t number) {
    serve(options, dir.get(), socket, number);
  });
}
