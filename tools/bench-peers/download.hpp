// The sending side of the wire for an event loop: reads a length, sends that much of DIR/source.
// How the bytes go is the program's; see send_sendfile.cpp and send_read.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "epoll_server.hpp"

namespace peer {

// What one call of a sender came to.
enum class sent { some, blocked, failed };

// Sender: `sent send_some(int socket, int file, std::uint64_t& offset, std::uint64_t end)`, which
// moves offset on; one for each connection.
template <typename Sender>
class download {
 public:
  download(int dir, int socket, Sender sender)
      : dir_(dir), socket_(socket), sender_(std::move(sender)) {}

  waits_for on_ready() {
    if (offset_ == end_) {
      const waits_for next = read_head();
      if (next != waits_for::output) return next;
    }
    for (int call = 0; call < calls_per_event && offset_ < end_; ++call) {
      const sent result = sender_.send_some(socket_, source_.get(), offset_, end_);
      if (result == sent::failed) return waits_for::nothing;
      if (result == sent::blocked) return waits_for::output;
    }
    return offset_ < end_ ? waits_for::output : waits_for::input;
  }

 private:
  static constexpr int calls_per_event = 8;

  // output: there is something to send now.
  waits_for read_head() {
    const ssize_t got = ::recv(socket_, head_ + head_filled_, head_bytes - head_filled_, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return waits_for::input;
    if (got <= 0) return waits_for::nothing;
    head_filled_ += static_cast<std::size_t>(got);
    if (head_filled_ < head_bytes) return waits_for::input;
    head_filled_ = 0;
    offset_ = 0;
    end_ = decode_length(head_);
    // Once for each connection: between nginx, which opens for each request by default, and a
    // server with a cache of descriptors.
    if (!source_) source_ = owned_fd(::openat(dir_, "source", O_RDONLY | O_CLOEXEC));
    if (!source_) return waits_for::nothing;
    return end_ == 0 ? waits_for::input : waits_for::output;
  }

  const int dir_;
  const int socket_;
  Sender sender_;
  owned_fd source_;
  unsigned char head_[head_bytes];
  std::size_t head_filled_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t end_ = 0;
};

}  // namespace peer
