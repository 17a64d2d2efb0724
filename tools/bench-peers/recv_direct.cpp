// The other side of the old argument: recv a whole block straight into page-aligned memory, then
// pwrite it with O_DIRECT. No copy but the socket's; one block at a time, so that network and disk
// take turns.
//
// Fair settings: a thread for each connection, MSG_WAITALL for full blocks of 256 KiB, fallocate
// first, the last block padded to the alignment and cut off by ftruncate.
#include <sys/mman.h>

#include <cstring>

#include "aligned_buffer.hpp"
#include "object_loop.hpp"

namespace {

bool pwrite_all(int file, const char* from, std::size_t bytes, std::uint64_t offset) {
  while (bytes > 0) {
    const ssize_t written = ::pwrite(file, from, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    from += written;
    bytes -= static_cast<std::size_t>(written);
    offset += static_cast<std::uint64_t>(written);
  }
  return true;
}

bool move(int socket, int file, std::uint64_t length, peer::aligned_buffer& buffer,
          std::size_t block) {
  if (!buffer) buffer = peer::make_aligned(block);
  if (!buffer || !peer::preallocate(file, peer::round_up(length))) return false;
  for (std::uint64_t offset = 0; offset < length;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(block, length - offset));
    if (!peer::receive_exactly(socket, buffer.get(), wanted)) return false;
    const auto padded = static_cast<std::size_t>(peer::round_up(wanted));
    std::memset(buffer.get() + wanted, 0, padded - wanted);
    if (!pwrite_all(file, buffer.get(), padded, offset)) return false;
    offset += wanted;
  }
  return length % peer::alignment == 0 || ::ftruncate(file, static_cast<off_t>(length)) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  const peer::owned_fd dir = peer::open_dir(options);
  peer::try_direct(options, dir.get());
  return peer::serve_with_threads(options, [&](int socket, std::uint64_t number) {
    peer::aligned_buffer buffer;
    peer::serve_objects(options, dir.get(), socket, number, O_WRONLY | O_DIRECT,
                        [&](int from, int file, std::uint64_t length) {
                          return move(from, file, length, buffer, options.block_bytes);
                        });
  });
}
