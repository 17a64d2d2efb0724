// What the peers of the case framed share: options, and where payloads go; the wire is in
// frame_wire.hpp.
//
//   PEER --listen ADDR:PORT --dir DIR --mode discard|store|store_direct [--block N]
//        [--way NAME] [--threads] [--check] [--buffer N]
//
// Payloads come to lie one behind the other in a page-aligned block, which is dropped when it is
// full (discard), or written to DIR/obj-CONNECTION-0 with one call (store; store_direct: O_DIRECT).
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "frame_wire.hpp"
#include "peer.hpp"

namespace peer {

constexpr std::size_t block_alignment = 4096;
constexpr std::size_t mapping_bytes = 8 << 20;

struct frame_settings {
  settings common;
  std::string way;
  bool threads = false;
  bool check = false;
  std::size_t buffer_bytes = 0;  // for what is copied from; 0: the program's own choice
};

inline frame_settings parse_framed(int argc, char** argv) {
  frame_settings options;
  std::vector<char*> others = {argv[0]};
  for (int at = 1; at < argc; ++at) {
    const std::string_view name = argv[at];
    if (name == "--threads") {
      options.threads = true;
    } else if (name == "--check") {
      options.check = true;
    } else if (name == "--way" && at + 1 < argc) {
      options.way = argv[++at];
    } else if (name == "--buffer" && at + 1 < argc) {
      options.buffer_bytes = parse_number(options.common, argv[++at], 1 << 26);
    } else {
      others.push_back(argv[at]);
    }
  }
  options.common =
      parse(static_cast<int>(others.size()), others.data(), {"discard", "store", "store_direct"});
  if (options.way == "mapped") options.common.block_bytes = mapping_bytes;
  return options;
}

inline bool answer_framed(int socket, bool stored, std::uint64_t receives, std::uint64_t sum) {
  std::array<unsigned char, frame_answer_bytes> text{};
  encode_frame_answer(text.data(), stored, receives, sum);
  return send_all(socket, text.data(), text.size());
}

// Where the payloads of one connection go.
class payload_block {
 public:
  payload_block(const frame_settings& options, int dir, std::uint64_t connection)
      : options_(options), dir_(dir), name_("obj-" + std::to_string(connection) + "-0") {}
  payload_block(const payload_block&) = delete;
  payload_block& operator=(const payload_block&) = delete;
  ~payload_block() {
    if (mapped_) {
      ::munmap(memory_, block_bytes_);
    } else {
      std::free(memory_);
    }
  }

  // Before the first payload. The space is reserved, as everywhere here.
  bool begin(std::uint64_t length, std::uint64_t payload_bytes) {
    length_ = length;
    payload_bytes_ = payload_bytes;
    mapped_ = options_.way == "mapped";
    const std::uint64_t wanted = std::max<std::uint64_t>(options_.common.block_bytes, page_bytes());
    block_bytes_ = wanted / page_bytes() * page_bytes();
    if (payload_bytes == 0 || length % payload_bytes != 0) return false;
    if (options_.common.mode == "discard") return !mapped_ && allocate();
    const bool direct = options_.common.mode == "store_direct";
    const int access = mapped_ ? O_RDWR : O_WRONLY | (direct ? O_DIRECT : 0);
    file_ = owned_fd(::openat(dir_, name_.c_str(), O_CREAT | O_TRUNC | O_CLOEXEC | access, 0644));
    const auto end = static_cast<off_t>(length);
    if (!file_ || ::posix_fallocate(file_.get(), 0, end) != 0) return false;
    return mapped_ ? map_next() : allocate();
  }

  [[nodiscard]] bool begun() const { return memory_ != nullptr; }
  [[nodiscard]] bool done() const { return begun() && stored_ == length_; }
  [[nodiscard]] std::uint64_t payload_bytes() const { return payload_bytes_; }
  // Of the payload that comes next; the ones behind it lie behind it, so many in all.
  [[nodiscard]] char* slot() const { return memory_ + used_; }
  [[nodiscard]] std::size_t slots() const {
    return std::min(block_bytes_ - used_, length_ - stored_ - used_) / payload_bytes_;
  }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }

  // The next payload is in its slot, and `head` is its own.
  bool add(const unsigned char* own_head) {
    frame_head head;
    if (!decode_frame_head(own_head, head) || head.payload_bytes != payload_bytes_ ||
        head.offset != stored_ + used_)
      return false;
    used_ += payload_bytes_;
    return slots() > 0 || drop();
  }

 private:
  // A block takes whole payloads and whole pages of the file.
  [[nodiscard]] std::uint64_t page_bytes() const {
    return std::max<std::uint64_t>(payload_bytes_, block_alignment);
  }

  bool allocate() {
    memory_ = static_cast<char*>(std::aligned_alloc(block_alignment, block_bytes_));
    return memory_ != nullptr;
  }

  bool map_next() {
    memory_ = nullptr;
    void* at = ::mmap(nullptr, block_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(),
                      static_cast<off_t>(stored_));
    if (at == MAP_FAILED) return false;
    memory_ = static_cast<char*>(at);
    constexpr int populate_write = 23;  // MADV_POPULATE_WRITE: no fault for each page
    ::madvise(at, std::min(block_bytes_, length_ - stored_), populate_write);
    return true;
  }

  bool drop() {
    if (options_.check) sum_ += check_sum(memory_, used_, stored_);
    if (mapped_) {
      if (::munmap(memory_, block_bytes_) != 0) return false;
    } else if (file_) {
      const auto at = static_cast<off_t>(stored_);
      if (::pwrite(file_.get(), memory_, used_, at) != static_cast<ssize_t>(used_)) return false;
    }
    stored_ += used_;
    used_ = 0;
    return !mapped_ || map_next();
  }

  const frame_settings& options_;
  const int dir_;
  const std::string name_;
  owned_fd file_;
  bool mapped_ = false;
  char* memory_ = nullptr;
  std::uint64_t block_bytes_ = 0;
  std::uint64_t length_ = 0;
  std::uint64_t payload_bytes_ = 0;
  std::uint64_t stored_ = 0;  // the block's place in the stream
  std::uint64_t used_ = 0;    // of the block
  std::uint64_t sum_ = 0;
};

// The beginning of a connection and of each frame: bytes that come in any pieces.
class frame_beginning {
 public:
  // How many bytes are lacking, and where they go.
  [[nodiscard]] std::size_t lacks() const { return wanted() - filled_; }
  [[nodiscard]] unsigned char* at() { return bytes_.data() + filled_; }
  [[nodiscard]] const unsigned char* head() const { return bytes_.data(); }
  [[nodiscard]] bool complete() const { return in_frames_ && filled_ == frame_head_bytes; }
  void next() { filled_ = 0; }

  // So many came. False: what they say is not of this wire.
  bool filled(std::size_t bytes, payload_block& into) {
    filled_ += bytes;
    if (lacks() > 0) return true;
    if (!in_frames_) {
      length_ = decode_length(bytes_.data());
      in_frames_ = true;
      filled_ = 0;
      return true;
    }
    frame_head head;
    return decode_frame_head(bytes_.data(), head) &&
           (into.begun() || into.begin(length_, head.payload_bytes));
  }

 private:
  [[nodiscard]] std::size_t wanted() const { return in_frames_ ? frame_head_bytes : head_bytes; }
  std::array<unsigned char, frame_head_bytes> bytes_{};
  std::size_t filled_ = 0;
  bool in_frames_ = false;
  std::uint64_t length_ = 0;
};

// Frames out of bytes that were received elsewhere: payloads are copied to their slots.
class copied_frames {
 public:
  copied_frames(const frame_settings& options, int dir, std::uint64_t connection)
      : block_(options, dir, connection) {}

  // False: not of this wire, or the file failed.
  bool take(const char* bytes, std::size_t count) {
    while (count > 0) {
      const bool in_head = !beginning_.complete();
      const std::size_t lacks =
          in_head ? beginning_.lacks() : block_.payload_bytes() - payload_filled_;
      const std::size_t taken = std::min(count, lacks);
      void* const to = in_head ? static_cast<void*>(beginning_.at())
                               : static_cast<void*>(block_.slot() + payload_filled_);
      std::memcpy(to, bytes, taken);
      bytes += taken;
      count -= taken;
      if (in_head) {
        if (!beginning_.filled(taken, block_)) return false;
      } else if ((payload_filled_ += taken) == block_.payload_bytes()) {
        payload_filled_ = 0;
        beginning_.next();
        if (!block_.add(beginning_.head())) return false;
      }
    }
    return true;
  }

  [[nodiscard]] const payload_block& block() const { return block_; }

 private:
  payload_block block_;
  frame_beginning beginning_;
  std::size_t payload_filled_ = 0;
};

}  // namespace peer
