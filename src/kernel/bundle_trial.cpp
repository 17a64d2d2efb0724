#include "kernel/bundle_trial.hpp"

#include <liburing.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernel/buffer_ring.hpp"
#include "kernel/fd.hpp"
#include "kernel/socket.hpp"
#include "kernel/uapi.hpp"
#include "sluice/result.hpp"

namespace sluice::kernel {
namespace {

constexpr std::size_t buffer_count = 8;
constexpr std::uint32_t buffer_bytes = 64;
constexpr std::size_t all_bytes = std::size_t{64} << 10;
constexpr std::size_t most_at_a_time = 5000;  // more than all buffers hold several times
constexpr unsigned short group = 0;
constexpr unsigned patience_s = 2;

std::byte pattern_at(std::size_t offset) {
  return static_cast<std::byte>(offset * 0x9e3779b97f4a7c15 >> 56);
}

std::vector<std::byte*> cut(std::array<std::byte, buffer_count * buffer_bytes>& memory) {
  std::vector<std::byte*> buffers;
  for (std::size_t i = 0; i < buffer_count; ++i) buffers.push_back(&memory[i * buffer_bytes]);
  return buffers;
}

class trial {
 public:
  trial() : buffers_(cut(memory_), buffer_bytes) {}
  trial(const trial&) = delete;
  trial& operator=(const trial&) = delete;
  ~trial() {
    if (made_) io_uring_queue_exit(&ring_);
  }
  std::string run();

 private:
  std::string set_up();
  bool connect();
  void arm();
  bool send_some(std::size_t round);
  std::string receive();

  std::array<std::byte, buffer_count * buffer_bytes> memory_;
  buffer_ring buffers_;
  io_uring ring_{};
  bool made_ = false;
  unique_fd sender_, receiver_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
  std::size_t bundles_ = 0;
};

std::string trial::set_up() {
  io_uring_params params{};
  const int made = io_uring_queue_init_params(16, &ring_, &params);
  if (made < 0) return std::string(code_name(-made)) + ": no ring for a trial";
  made_ = true;
  if ((params.features & uapi::feature_recvsend_bundle) == 0) {
    return "this kernel knows no bundles (Linux 6.10)";
  }
  io_uring_buf_reg wanted{};
  wanted.ring_addr = reinterpret_cast<std::uintptr_t>(buffers_.entries());
  wanted.ring_entries = buffers_.entry_count();
  wanted.bgid = group;
  const int registered = io_uring_register_buf_ring(&ring_, &wanted, 0);
  if (registered < 0) return std::string(code_name(-registered)) + ": no provided buffers";
  return connect() ? "" : std::string(code_name(errno)) + ": no connection for a trial";
}

std::string trial::run() {
  if (std::string why = set_up(); !why.empty()) return why;
  arm();
  for (std::size_t round = 0; received_ < all_bytes; ++round) {
    if (sent_ == received_ && !send_some(round)) return "the trial could not send";
    if (std::string why = receive(); !why.empty()) return why;
  }
  return bundles_ > 0 ? "" : "the kernel fills one buffer for each answer";
}

// By TCP, as the defect that is known needs it.
bool trial::connect() {
  const result<unique_fd> listening = listen_at({.address = "127.0.0.1:0"});
  if (!listening) return false;
  const result<socket_address> address = parse_address(local_address(listening->get()));
  if (!address) return false;
  result<unique_fd> sender = open_socket(*address, socket_mode::blocking);
  if (!sender || ::connect(sender->get(), address->get(), address->bytes) != 0) return false;
  sender_ = std::move(*sender);
  receiver_ = unique_fd(::accept4(listening->get(), nullptr, nullptr, SOCK_CLOEXEC));
  return static_cast<bool>(receiver_);
}

void trial::arm() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_recv_multishot(sqe, receiver_.get(), nullptr, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = group;
  sqe->ioprio |= uapi::recvsend_bundle;
}

bool trial::send_some(std::size_t round) {
  std::array<std::byte, most_at_a_time> chunk;
  const std::size_t bytes = std::min(1 + round * 1097 % most_at_a_time, all_bytes - sent_);
  for (std::size_t i = 0; i < bytes; ++i) chunk[i] = pattern_at(sent_ + i);
  sent_ += bytes;
  return ::send(sender_.get(), chunk.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

std::string trial::receive() {
  __kernel_timespec limit{.tv_sec = patience_s, .tv_nsec = 0};
  io_uring_cqe* found = nullptr;
  const int entered = io_uring_submit_and_wait_timeout(&ring_, &found, 1, &limit, nullptr);
  if (entered < 0 && entered != -EINTR) return "bytes were sent and no answer came";
  bool right = true;
  while (io_uring_peek_cqe(&ring_, &found) == 0) {
    const io_uring_cqe answer = *found;
    io_uring_cqe_seen(&ring_, found);
    if (answer.res <= 0 && answer.res != -ENOBUFS) {
      return std::string(code_name(-answer.res)) + ": receiving in bundles";
    }
    if ((answer.flags & IORING_CQE_F_BUFFER) != 0) {
      if (answer.res > static_cast<int>(buffer_bytes)) ++bundles_;
      buffers_.taken(static_cast<std::uint16_t>(answer.flags >> IORING_CQE_BUFFER_SHIFT),
                     static_cast<std::size_t>(answer.res),
                     [&](std::uint16_t buffer, std::uint32_t bytes) {
                       const std::byte* const data = buffers_.memory(buffer);
                       for (std::uint32_t i = 0; i < bytes; ++i) {
                         right = right && data[i] == pattern_at(received_++);
                       }
                       buffers_.give(buffer);
                     });
    }
    if ((answer.flags & IORING_CQE_F_MORE) == 0) arm();
  }
  return right ? "" : "bundles bring their bytes in another order";
}

}  // namespace

std::string try_bundles() { return trial().run(); }

}  // namespace sluice::kernel
