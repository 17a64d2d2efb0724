// The sending side of recv_direct: pread with O_DIRECT into page-aligned memory, then send. No copy
// but the socket's; one block at a time, so that disk and network take turns.
//
// Fair settings: a thread for each connection, blocks of 256 KiB, TCP_NODELAY, the file open for
// the life of a connection.
#include <algorithm>

#include "aligned_buffer.hpp"

namespace {

// The payload may end inside a block, which is read whole.
bool send_payload(int socket, int file, std::uint64_t length, char* block, std::size_t bytes) {
  for (std::uint64_t offset = 0; offset < length;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, length - offset));
    const ssize_t got = ::pread(file, block, peer::round_up(wanted), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;  // 0: more was asked for than the file has
    const std::size_t have = std::min(static_cast<std::size_t>(got), wanted);
    if (!peer::send_all(socket, block, have)) return false;
    if (have < wanted && have % peer::alignment != 0) return false;  // the file ends here
    offset += have;
  }
  return true;
}

void serve(const peer::settings& options, int dir, int socket) {
  const peer::aligned_buffer block = peer::make_aligned(options.block_bytes);
  const peer::owned_fd source(::openat(dir, "source", O_RDONLY | O_DIRECT | O_CLOEXEC));
  unsigned char head[peer::head_bytes];
  while (block && source && peer::receive_exactly(socket, head, sizeof head)) {
    const std::uint64_t length = peer::decode_length(head);
    if (!send_payload(socket, source.get(), length, block.get(), options.block_bytes)) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"send"});
  const peer::owned_fd dir = peer::open_dir(options);
  peer::try_direct(options, dir.get());
  return peer::serve_with_threads(
      options, [&](int socket, std::uint64_t) { serve(options, dir.get(), socket); });
}
