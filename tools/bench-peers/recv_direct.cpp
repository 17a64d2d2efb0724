// The other side of the old argument: recv a whole block straight into page-aligned memory, then
// pwrite it with O_DIRECT. No copy but the socket's; one block at a time, so that network and disk
// take turns.
//
// Fair settings: a thread for each connection, MSG_WAITALL for full blocks of 256 KiB, fallocate
// first, the last block padded to the alignment and cut off by ftruncate.
#include <sys/mman.h>

#include <cstring>
#include <memory>

#include "object_loop.hpp"

namespace {

// Enough for any filesystem on blocks of 512 or 4096 bytes.
constexpr std::size_t alignment = 4096;

constexpr std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}

struct free_aligned {
  void operator()(char* memory) const { std::free(memory); }
};
using aligned_buffer = std::unique_ptr<char, free_aligned>;

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

bool move(int socket, int file, std::uint64_t length, aligned_buffer& buffer, std::size_t block) {
  if (!buffer) buffer.reset(static_cast<char*>(std::aligned_alloc(alignment, block)));
  if (!buffer || !peer::preallocate(file, round_up(length))) return false;
  for (std::uint64_t offset = 0; offset < length;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(block, length - offset));
    if (!peer::receive_exactly(socket, buffer.get(), wanted)) return false;
    const auto padded = static_cast<std::size_t>(round_up(wanted));
    std::memset(buffer.get() + wanted, 0, padded - wanted);
    if (!pwrite_all(file, buffer.get(), padded, offset)) return false;
    offset += wanted;
  }
  return length % alignment == 0 || ::ftruncate(file, static_cast<off_t>(length)) == 0;
}

// Buffered writes under the name of direct ones would be a false figure.
void try_direct(const peer::settings& options, int dir) {
  const char* name = ".recv_direct-trial";
  const peer::owned_fd file(::openat(dir, name, O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC, 0644));
  const int error = errno;
  ::unlinkat(dir, name, 0);
  if (!file) peer::refuse(options, "no O_DIRECT there: " + std::string(std::strerror(error)));
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  if (options.block_bytes % alignment != 0) peer::refuse(options, "--block is no multiple of 4096");
  const peer::owned_fd dir = peer::open_dir(options);
  try_direct(options, dir.get());
  return peer::serve_with_threads(options, [&](int socket, std::uint64_t number) {
    aligned_buffer buffer;
    peer::serve_objects(options, dir.get(), socket, number, O_WRONLY | O_DIRECT,
                        [&](int from, int file, std::uint64_t length) {
                          return move(from, file, length, buffer, options.block_bytes);
                        });
  });
}
