// The old argument, with one program for each side of it, by --way:
//   contiguous  a large recv into one buffer, and each payload copied to its place in a block
//   two_calls   a recv for the head, a recv for the payload straight into its place
//   readv       one call for {head, place} x N, where all frames are known to be alike
//   mapped      two calls, into a mapping of the file instead of a block (store only)
//
// Fair settings: epoll and non-blocking sockets, or --threads: one for each connection, blocking
// sockets and MSG_WAITALL where a call wants a certain number of bytes. The buffer of contiguous is
// shared by all connections of a thread and has 512 KiB: with 128 KiB, all of it hot in the cache,
// the kernel's copy into what was just read costs half as much again. Blocks of 256 KiB are
// written with one call, mappings are of 8 MiB and populated in one call.
#include <sys/uio.h>

#include <cstring>

#include "epoll_server.hpp"
#include "framed.hpp"

namespace {

constexpr int calls_per_event = 64;
constexpr std::size_t batch = 32;  // frames of one readv

using peer::waits_for;

// A connection that has its last payload gets its answer and ends.
waits_for end(int socket, const peer::payload_block& block, bool fine, std::uint64_t calls) {
  peer::answer_framed(socket, fine, calls, block.sum());
  return waits_for::nothing;
}

class aligned_memory {
 public:
  explicit aligned_memory(std::size_t bytes)
      : at_(static_cast<char*>(std::aligned_alloc(peer::block_alignment, bytes))) {
    if (at_ == nullptr) std::abort();
  }
  aligned_memory(const aligned_memory&) = delete;
  aligned_memory& operator=(const aligned_memory&) = delete;
  ~aligned_memory() { std::free(at_); }
  char* data() const { return at_; }

 private:
  char* const at_;
};

class contiguous {
 public:
  contiguous(const peer::frame_settings& options, int dir, int socket, std::uint64_t number)
      : socket_(socket),
        bytes_(options.buffer_bytes > 0 ? options.buffer_bytes : 512 * 1024),
        frames_(options, dir, number) {}

  waits_for on_ready() {
    static thread_local const aligned_memory buffer(bytes_);
    for (int call = 0; call < calls_per_event; ++call) {
      const ssize_t got = ::recv(socket_, buffer.data(), bytes_, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return waits_for::input;
      if (got <= 0) return waits_for::nothing;
      ++calls_;
      const bool fine = frames_.take(buffer.data(), static_cast<std::size_t>(got));
      if (!fine || frames_.block().done()) return end(socket_, frames_.block(), fine, calls_);
      if (static_cast<std::size_t>(got) < bytes_) break;
    }
    return waits_for::input;
  }

 private:
  const int socket_;
  const std::size_t bytes_;
  peer::copied_frames frames_;
  std::uint64_t calls_ = 0;
};

// Head and payload where they belong. `frames` is how many a call may bring: with one, head and
// payload are asked for in a call each.
class in_place {
 public:
  in_place(const peer::frame_settings& options, int dir, int socket, std::uint64_t number)
      : socket_(socket),
        together_(options.way == "readv"),
        wait_for_all_(options.threads && !together_),
        block_(options, dir, number) {}

  waits_for on_ready() {
    for (int call = 0; call < calls_per_event; ++call) {
      plan();
      msghdr message{};
      message.msg_iov = pieces_.data();
      message.msg_iovlen = pieces_.size();
      const ssize_t got = pieces_.size() == 1
                              ? ::recv(socket_, pieces_[0].iov_base, pieces_[0].iov_len, flags())
                              : ::recvmsg(socket_, &message, flags());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return waits_for::input;
      if (got <= 0) return waits_for::nothing;
      ++calls_;
      const bool fine = take(static_cast<std::size_t>(got));
      if (!fine || block_.done()) return end(socket_, block_, fine, calls_);
    }
    return waits_for::input;
  }

 private:
  int flags() const { return wait_for_all_ ? MSG_WAITALL : 0; }

  void plan() {
    pieces_.clear();
    const bool in_head = !beginning_.complete();
    if (in_head) pieces_.push_back({beginning_.at(), beginning_.lacks()});
    if (in_head && (!together_ || !block_.begun())) return;
    char* slot = block_.slot();
    const std::size_t bytes = block_.payload_bytes();
    pieces_.push_back({slot + payload_filled_, bytes - payload_filled_});
    const std::size_t frames = together_ ? std::min(block_.slots(), batch) : 1;
    for (std::size_t at = 1; at < frames; ++at) {
      slot += bytes;
      pieces_.push_back({heads_[at].data(), peer::frame_head_bytes});
      pieces_.push_back({slot, bytes});
    }
  }

  // Heads and payloads take turns; the bytes are in their places already.
  bool take(std::size_t count) {
    for (std::size_t head = 1; count > 0;) {
      if (!beginning_.complete()) {
        const std::size_t taken = std::min(count, beginning_.lacks());
        count -= taken;
        if (!beginning_.filled(taken, block_)) return false;
        continue;
      }
      const std::size_t taken = std::min(count, block_.payload_bytes() - payload_filled_);
      payload_filled_ += taken;
      count -= taken;
      if (payload_filled_ < block_.payload_bytes()) return true;
      payload_filled_ = 0;
      beginning_.next();
      if (!block_.add(beginning_.head())) return false;
      if (count > 0) std::memcpy(beginning_.at(), heads_[head++].data(), peer::frame_head_bytes);
    }
    return true;
  }

  const int socket_;
  const bool together_;
  const bool wait_for_all_;
  peer::payload_block block_;
  peer::frame_beginning beginning_;
  std::size_t payload_filled_ = 0;
  std::uint64_t calls_ = 0;
  std::vector<iovec> pieces_;
  std::array<std::array<unsigned char, peer::frame_head_bytes>, batch> heads_;
};

template <typename Connection>
int serve(const peer::frame_settings& options, int dir) {
  if (!options.threads) {
    return peer::serve_with_epoll(options.common, [&](int socket, std::uint64_t number) {
      return std::make_unique<Connection>(options, dir, socket, number);
    });
  }
  return peer::serve_with_threads(options.common, [&, dir](int socket, std::uint64_t number) {
    Connection one(options, dir, socket, number);
    while (one.on_ready() == waits_for::input) continue;
  });
}

}  // namespace

int main(int argc, char** argv) {
  const peer::frame_settings options = peer::parse_framed(argc, argv);
  const peer::owned_fd dir = peer::open_dir(options.common);
  if (options.way == "contiguous") return serve<contiguous>(options, dir.get());
  if (options.way != "two_calls" && options.way != "readv" && options.way != "mapped")
    peer::refuse(options.common, "no --way '" + options.way + "'");
  if (options.way == "mapped" && options.common.mode != "store")
    peer::refuse(options.common, "--way mapped wants --mode store");
  return serve<in_place>(options, dir.get());
}
