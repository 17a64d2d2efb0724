// The receiving side of the wire for programs that recv into one buffer and write what came: heads
// are cut out of the stream, payload goes to files, each finished object is answered.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "stored_object.hpp"

namespace peer {

class object_stream {
 public:
  object_stream(const settings& options, int dir, int socket, std::uint64_t connection)
      : options_(options), dir_(dir), socket_(socket), connection_(connection) {}

  // Takes what one recv brought. False: this connection is over ('e' was sent if a file failed).
  bool take(const char* bytes, std::size_t count) {
    while (count > 0) {
      const std::size_t taken = object_ ? write_payload(bytes, count) : read_head(bytes, count);
      if (taken == 0) {
        answer(socket_, 'e');
        return false;
      }
      bytes += taken;
      count -= taken;
      if (object_ && left_ == 0 && !finish()) return false;
    }
    return true;
  }

 private:
  // Bytes taken; 0 when the file could not be made.
  std::size_t read_head(const char* bytes, std::size_t count) {
    const std::size_t taken = std::min(count, head_bytes - head_filled_);
    std::memcpy(head_ + head_filled_, bytes, taken);
    head_filled_ += taken;
    if (head_filled_ < head_bytes) return taken;
    head_filled_ = 0;
    left_ = decode_length(head_);
    object_.emplace(options_, dir_, connection_, objects_++, O_WRONLY);
    return *object_ ? taken : 0;
  }

  // Bytes taken; 0 when the write failed.
  std::size_t write_payload(const char* bytes, std::size_t count) {
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(count, left_));
    if (!write_all(object_->fd(), bytes, taken)) return 0;
    left_ -= taken;
    return taken;
  }

  bool finish() {
    const bool stored = object_->store();
    object_.reset();
    return answer(socket_, stored ? 'k' : 'e') && stored;
  }

  const settings& options_;
  const int dir_;
  const int socket_;
  const std::uint64_t connection_;
  std::uint64_t objects_ = 0;
  unsigned char head_[head_bytes];
  std::size_t head_filled_ = 0;
  std::uint64_t left_ = 0;
  std::optional<stored_object> object_;
};

}  // namespace peer
