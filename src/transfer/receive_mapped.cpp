// Socket to file without a buffer of ours: window by window the file is mapped, and the kernel
// receives into its pages. One copy, and a fault for each page, taken on the loop's thread while
// everybody waits: never chosen by itself, kept to answer an old question with figures.
//   reserve  before: the space is there, or the path is refused; a page without space would be
//            SIGBUS for whoever touches it
//   map      the next window of the file; nothing but the kernel ever writes to it
//   fill     by plain receives, which say EFAULT where a page cannot be had all the same
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "kernel/file_map.hpp"
#include "transfer/receiving.hpp"
#include "transfer/stall_watch.hpp"

namespace sluice {
namespace {

std::size_t window_bytes(const receiving& r) {
  const std::uint64_t most = r.into.core.values().receive.mapped_bytes;
  return static_cast<std::size_t>(std::min(most - r.next_offset() % most, r.left()));
}

// One coroutine frame for all windows.
task<int> fill_windows(receiving& r) {
  const tuning::receive_knobs& knobs = r.into.core.values().receive;
  op_pace sender({knobs.timeout_ms, knobs.rate_min_bytes});
  while (r.left() > 0) {
    result<kernel::file_map> window =
        kernel::file_map::make(r.into.fd.get(), r.next_offset(), window_bytes(r));
    if (!window) co_return window.error().code;
    const std::size_t bytes = window->bytes();
    for (std::size_t filled = 0; filled < bytes;) {
      const op_request wanted = receive_request(r, window->data() + filled, bytes - filled);
      sender.begins(kernel::now_ns());
      op_await recv(r.into.core.loop(), wanted, sender.interval());
      const result<std::size_t> got = co_await recv;
      filled += recv.moved();
      const int failure = received_verdict(r, sender, got, recv, filled == bytes, holding::nothing);
      if (failure != 0) co_return failure == EFAULT ? EIO : failure;
    }
  }
  r.so_far.last_byte = r.elapsed();
  co_return 0;
}

}  // namespace

task<int> receive_mapped(receiving& r) {
  const std::uint64_t faults_before = kernel::faults_of_thread();
  int failure = co_await write_prefix(r);
  if (failure == 0) failure = co_await fill_windows(r);
  r.so_far.faults = kernel::faults_of_thread() - faults_before;
  r.into.core.counters().receive.mapped_faults.add(r.so_far.faults);
  co_return failure;
}

}  // namespace sluice
