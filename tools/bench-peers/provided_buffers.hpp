// Provided buffers of a ring, one group of them, which receives take in the order in which they
// were given; one answer may bring a bundle of several (IORING_RECVSEND_BUNDLE, Linux 6.10).
#pragma once

#include <liburing.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "peer.hpp"

namespace peer {

// include/uapi/linux/io_uring.h: newer than liburing 2.3.
constexpr unsigned recvsend_bundle = 1U << 4;  // of io_uring_sqe::ioprio
constexpr unsigned feature_recvsend_bundle = 1U << 14;
#ifdef IORING_RECVSEND_BUNDLE
static_assert(recvsend_bundle == IORING_RECVSEND_BUNDLE);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
static_assert(feature_recvsend_bundle == IORING_FEAT_RECVSEND_BUNDLE);
#endif

class provided_buffers {
 public:
  static constexpr int group = 0;

  // `count` is a power of two.
  provided_buffers(unsigned count, std::size_t bytes_each)
      : count_(count), bytes_each_(bytes_each), at_(history * count), place_of_(count) {}
  provided_buffers(const provided_buffers&) = delete;
  provided_buffers& operator=(const provided_buffers&) = delete;
  ~provided_buffers() {  // after the ring
    std::free(entries_);
    std::free(memory_);
  }

  // 0 or -errno.
  int begin(io_uring& of) {
    entries_ = static_cast<io_uring_buf_ring*>(aligned(count_ * sizeof(io_uring_buf)));
    memory_ = static_cast<char*>(aligned(count_ * bytes_each_));
    if (entries_ == nullptr || memory_ == nullptr) return -ENOMEM;
    ::io_uring_buf_ring_init(entries_);
    io_uring_buf_reg registered{};
    registered.ring_addr = reinterpret_cast<std::uint64_t>(entries_);
    registered.ring_entries = count_;
    registered.bgid = group;
    const int done = ::io_uring_register_buf_ring(&of, &registered, 0);
    if (done < 0) return done;
    for (unsigned buffer = 0; buffer < count_; ++buffer) give(buffer, static_cast<int>(buffer));
    ::io_uring_buf_ring_advance(entries_, static_cast<int>(count_));
    return 0;
  }

  // For a receive that is prepared without memory of its own.
  static void use(io_uring_sqe& by, bool bundles) {
    by.flags |= IOSQE_BUFFER_SELECT;
    by.buf_group = group;
    if (bundles) by.ioprio |= recvsend_bundle;
  }

  // Calls `each(const char*, bytes)` for what an answer has brought, in its order, until one call
  // returns false, and gives the buffers back. Whether none did.
  template <class Each>
  bool take(const io_uring_cqe& answer, Each each) {
    if ((answer.flags & IORING_CQE_F_BUFFER) == 0) return true;
    std::size_t place = place_of_[answer.flags >> IORING_CQE_BUFFER_SHIFT];
    std::size_t left = answer.res > 0 ? static_cast<std::size_t>(answer.res) : 0;
    bool wanted = true;
    int given = 0;
    do {
      const unsigned buffer = at_[place++ % at_.size()];
      const std::size_t some = std::min(left, bytes_each_);
      if (wanted && some > 0) wanted = each(memory_ + buffer * bytes_each_, some);
      left -= some;
      give(buffer, given++);
    } while (left > 0);
    ::io_uring_buf_ring_advance(entries_, given);
    return wanted;
  }

 private:
  // Of places that are remembered, in turns of the ring: an answer may be looked at when the
  // buffers of later ones were given back already.
  static constexpr std::size_t history = 4;
  static constexpr std::size_t alignment = 4096;

  static void* aligned(std::size_t bytes) {
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }

  void give(unsigned buffer, int behind) {
    at_[given_ % at_.size()] = buffer;
    place_of_[buffer] = given_++;
    ::io_uring_buf_ring_add(entries_, memory_ + buffer * bytes_each_,
                            static_cast<unsigned>(bytes_each_), static_cast<unsigned short>(buffer),
                            ::io_uring_buf_ring_mask(count_), behind);
  }

  const unsigned count_;
  const std::size_t bytes_each_;
  io_uring_buf_ring* entries_ = nullptr;
  char* memory_ = nullptr;
  std::size_t given_ = 0;              // buffers, since the beginning
  std::vector<unsigned> at_;           // which one was given as the so-manieth, of the last ones
  std::vector<std::size_t> place_of_;  // by buffer, when it was given last
};

// A connection over loopback, as those that are measured.
struct tcp_pair {
  owned_fd sender, receiver;

  static tcp_pair make() {
    tcp_pair made;
    const owned_fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t bytes = sizeof address;
    made.sender = owned_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(listener.get(), generic, bytes) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), generic, &bytes) != 0 ||
        ::connect(made.sender.get(), generic, bytes) != 0)
      return made;
    made.receiver = owned_fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return made;
  }
};

// Whether bundles work here: a known pattern goes through a few small buffers again and again, so
// that bundles begin at every place of the ring and reach over its end.
class bundle_trial {
 public:
  // Empty, or why they are not to be used.
  static std::string run() {
    bundle_trial trial;
    return trial.carry_out();
  }

 private:
  static constexpr unsigned buffer_count = 8;
  static constexpr std::size_t buffer_bytes = 64;
  static constexpr std::size_t bytes_in_all = 64 << 10;
  static constexpr std::size_t chunk_max = 700;  // more than all buffers hold

  bundle_trial() : buffers_(buffer_count, buffer_bytes) {}
  ~bundle_trial() {
    if (made_) ::io_uring_queue_exit(&ring_);
  }
  static char pattern_at(std::size_t offset) {
    return static_cast<char>((offset * 0x9e3779b97f4a7c15) >> 56);
  }

  std::string carry_out() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (::io_uring_queue_init_params(16, &ring_, &params) < 0) return "no io_uring here";
    made_ = true;
    if ((params.features & feature_recvsend_bundle) == 0)
      return "the kernel knows no bundles (Linux 6.10)";
    if (buffers_.begin(ring_) < 0) return "no provided buffers here";
    ends_ = tcp_pair::make();
    if (!ends_.receiver) return "no connection over loopback";
    arm();
    for (std::size_t turn = 0; received_ < bytes_in_all; ++turn) {
      if (sent_ == received_ && !send_some(turn)) return "the trial could not send";
      if (const std::string why = receive(); !why.empty()) return why;
    }
    return bundles_ > 0 ? "" : "the kernel fills one buffer for each completion";
  }

  void arm() {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    ::io_uring_prep_recv_multishot(sqe, ends_.receiver.get(), nullptr, 0, 0);
    provided_buffers::use(*sqe, true);
  }

  bool send_some(std::size_t turn) {
    std::array<char, chunk_max> chunk;
    const std::size_t bytes = std::min(1 + turn * 97 % chunk_max, bytes_in_all - sent_);
    for (std::size_t i = 0; i < bytes; ++i) chunk[i] = pattern_at(sent_ + i);
    sent_ += bytes;
    return ::send(ends_.sender.get(), chunk.data(), bytes, MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes);
  }

  std::string receive() {
    __kernel_timespec limit{.tv_sec = 5, .tv_nsec = 0};
    io_uring_cqe* found = nullptr;
    const int entered = ::io_uring_submit_and_wait_timeout(&ring_, &found, 1, &limit, nullptr);
    if (entered < 0 && entered != -EINTR) return "the trial came to no end";
    while (::io_uring_peek_cqe(&ring_, &found) == 0) {
      const io_uring_cqe answer = *found;
      ::io_uring_cqe_seen(&ring_, found);
      if (answer.res <= 0 && answer.res != -ENOBUFS)
        return std::string("receiving in bundles: ") + std::strerror(-answer.res);
      if (answer.res > static_cast<int>(buffer_bytes)) ++bundles_;
      const bool right = buffers_.take(answer, [this](const char* data, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) {
          if (data[i] != pattern_at(received_++)) return false;
        }
        return true;
      });
      if (!right) return "bundles bring their bytes in another order";
      if ((answer.flags & IORING_CQE_F_MORE) == 0) arm();
    }
    return "";
  }

  provided_buffers buffers_;
  io_uring ring_{};
  bool made_ = false;
  tcp_pair ends_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
  std::size_t bundles_ = 0;
};

}  // namespace peer
