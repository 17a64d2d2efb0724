// The portable way: epoll, pread of 256 KiB from the page cache, send.
//
// Fair settings: one buffer for all connections, so that it stays in the CPU's cache; what a send
// left over is kept by its connection and not read again; TCP_NODELAY, the file open for the life
// of a connection.
#include <algorithm>
#include <memory>
#include <vector>

#include "download.hpp"

namespace {

class read_sender {
 public:
  explicit read_sender(std::vector<char>& buffer) : buffer_(&buffer) {}

  peer::sent send_some(int socket, int file, std::uint64_t& offset, std::uint64_t end) {
    if (kept_at_ < kept_.size()) return send_kept(socket, offset);
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer_->size(), end - offset));
    const ssize_t got = ::pread(file, buffer_->data(), wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) return peer::sent::some;
    if (got <= 0) return peer::sent::failed;  // 0: more was asked for than the file has
    const auto have = static_cast<std::size_t>(got);
    std::size_t moved = 0;
    const peer::sent result = send_once(socket, buffer_->data(), have, moved);
    offset += moved;
    if (moved < have && result != peer::sent::failed) {
      kept_.assign(buffer_->begin() + static_cast<std::ptrdiff_t>(moved), buffer_->begin() + got);
      kept_at_ = 0;
    }
    return result;
  }

 private:
  static peer::sent send_once(int socket, const char* from, std::size_t bytes, std::size_t& moved) {
    const ssize_t result = ::send(socket, from, bytes, MSG_NOSIGNAL);
    if (result < 0 && errno == EINTR) return peer::sent::some;
    if (result < 0 && errno == EAGAIN) return peer::sent::blocked;
    if (result <= 0) return peer::sent::failed;
    moved = static_cast<std::size_t>(result);
    return moved < bytes ? peer::sent::blocked : peer::sent::some;
  }

  peer::sent send_kept(int socket, std::uint64_t& offset) {
    std::size_t moved = 0;
    const peer::sent result =
        send_once(socket, kept_.data() + kept_at_, kept_.size() - kept_at_, moved);
    kept_at_ += moved;
    offset += moved;
    return result;
  }

  std::vector<char>* buffer_;
  std::vector<char> kept_;
  std::size_t kept_at_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"send"});
  const peer::owned_fd dir = peer::open_dir(options);
  std::vector<char> buffer(options.block_bytes);
  return peer::serve_with_epoll(options, [&](int socket, std::uint64_t) {
    return std::make_unique<peer::download<read_sender>>(dir.get(), socket, read_sender(buffer));
  });
}
