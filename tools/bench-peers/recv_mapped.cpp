// recv straight into the page cache: the file is mapped shared and the socket's bytes are copied
// into the mapping.
//
// Fair settings: a thread for each connection; fallocate first, so that a full disk is an error
// here and no SIGBUS; a window of 8 MiB mapped at a time with its pages made in one call where the
// kernel can (MADV_POPULATE_WRITE, Linux 5.14), instead of a fault for each page. --sync is
// fdatasync: on Linux it writes the dirty pages of mappings too, and spares the second wait of an
// msync.
#include <sys/mman.h>

#include "object_loop.hpp"

namespace {

#ifndef MADV_POPULATE_WRITE
constexpr int populate_write = 23;
#else
constexpr int populate_write = MADV_POPULATE_WRITE;
#endif
constexpr std::uint64_t window_bytes = 8 << 20;  // a multiple of every page size in use

bool receive_window(int socket, int file, std::uint64_t offset, std::size_t bytes) {
  void* mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return false;
  ::madvise(mapped, bytes, populate_write);  // older kernels fault the pages one by one
  const bool received = peer::receive_exactly(socket, mapped, bytes);
  return ::munmap(mapped, bytes) == 0 && received;
}

bool move(int socket, int file, std::uint64_t length) {
  // Also where preallocation is not to be had: a mapping does not grow a file.
  if (!peer::preallocate(file, length) || ::ftruncate(file, static_cast<off_t>(length)) != 0)
    return false;
  for (std::uint64_t offset = 0; offset < length; offset += window_bytes) {
    const std::uint64_t bytes = std::min(window_bytes, length - offset);
    if (!receive_window(socket, file, offset, static_cast<std::size_t>(bytes))) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"receive", "durable"});
  const peer::owned_fd dir = peer::open_dir(options);
  return peer::serve_with_threads(options, [&](int socket, std::uint64_t number) {
    peer::serve_objects(options, dir.get(), socket, number, O_RDWR, move);
  });
}
