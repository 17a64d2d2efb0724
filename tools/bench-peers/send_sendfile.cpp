// The way of nginx and Apache: epoll and sendfile from the page cache.
//
// Fair settings: up to 2 MiB for each call (nginx's sendfile_max_chunk), TCP_NODELAY, the file
// open for the life of a connection.
#include <sys/sendfile.h>

#include <algorithm>
#include <memory>

#include "download.hpp"

namespace {

class sendfile_sender {
 public:
  explicit sendfile_sender(std::size_t block_bytes) : block_bytes_(block_bytes) {}

  peer::sent send_some(int socket, int file, std::uint64_t& offset, std::uint64_t end) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(block_bytes_, end - offset));
    auto at = static_cast<off_t>(offset);
    const ssize_t moved = ::sendfile(socket, file, &at, wanted);
    if (moved < 0 && errno == EINTR) return peer::sent::some;
    if (moved < 0 && errno == EAGAIN) return peer::sent::blocked;
    if (moved <= 0) return peer::sent::failed;  // 0: more was asked for than the file has
    offset = static_cast<std::uint64_t>(at);
    return peer::sent::some;
  }

 private:
  std::size_t block_bytes_;
};

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"send"}, 2 << 20);
  const peer::owned_fd dir = peer::open_dir(options);
  return peer::serve_with_epoll(options, [&](int socket, std::uint64_t) {
    return std::make_unique<peer::download<sendfile_sender>>(dir.get(), socket,
                                                             sendfile_sender(options.block_bytes));
  });
}
