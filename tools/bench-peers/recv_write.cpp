// The event loop people write first: epoll, non-blocking recv of 256 KiB, write, the page cache.
//
// Fair settings: one buffer for all connections, so that it stays in the CPU's cache; the length
// and the payload behind it come by the same recv; one accept loop, TCP_NODELAY for the answers.
// The sync blocks the loop, as it does in nginx: who needs many durable objects at once takes
// recv_write_threads.
#include <cstring>
#include <memory>
#include <vector>

#include "epoll_server.hpp"
#include "object_stream.hpp"

namespace {

constexpr int calls_per_event = 8;

class upload {
 public:
  upload(const peer::settings& options, int dir, int socket, std::uint64_t number,
         std::vector<char>& buffer)
      : socket_(socket), buffer_(buffer), objects_(options, dir, socket, number) {}

  peer::waits_for on_ready() {
    for (int call = 0; call < calls_per_event; ++call) {
      const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return peer::waits_for::input;
      if (got <= 0) return peer::waits_for::nothing;
      const auto count = static_cast<std::size_t>(got);
      if (!objects_.take(buffer_.data(), count)) return peer::waits_for::nothing;
      if (count < buffer_.size()) break;  // the socket is empty: spare the call that says so
    }
    return peer::waits_for::input;
  }

 private:
  const int socket_;
  std::vector<char>& buffer_;
  peer::object_stream objects_;
};

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  const peer::owned_fd dir = peer::open_dir(options);
  std::vector<char> buffer(options.block_bytes);
  return peer::serve_with_epoll(options, [&](int socket, std::uint64_t number) {
    return std::make_unique<upload>(options, dir.get(), socket, number, buffer);
  });
}
