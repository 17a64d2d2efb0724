// Frames by io_uring's multishot receive: one op per connection that answers again and again, each
// time with one of a ring of provided buffers; payloads are copied to their places in a block.
//
// Fair settings: one thread, one ring with deferred task work, so that many answers come with one
// call; 64 buffers of 64 KiB: a smaller ring is hotter, and dearer, because the kernel copies
// slowly to what the CPU has just read. A buffer goes back as soon as it was copied from. An op
// that ended for lack of buffers is armed again after the buffers of its batch went back.
#include <liburing.h>

#include <cstring>
#include <unordered_map>

#include "framed.hpp"

namespace {

constexpr unsigned buffer_count = 64;
constexpr unsigned batch = 64;  // completions looked at between two submissions
constexpr int group = 0;

class server {
 public:
  explicit server(const peer::frame_settings& options);
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  ~server();
  int run();

 private:
  struct connection {
    connection(peer::owned_fd from, const peer::frame_settings& options, int dir,
               std::uint64_t number)
        : socket(std::move(from)), frames(options, dir, number) {}
    peer::owned_fd socket;
    peer::copied_frames frames;
  };
  static constexpr std::uint64_t stop_event = ~std::uint64_t{0};
  static constexpr std::uint64_t accept_event = stop_event - 1;

  void check(int result, const char* what);
  void make_buffers();
  io_uring_sqe* entry();
  void poll(int fd, std::uint64_t event);
  void arm(std::uint64_t number);
  void give_back(unsigned buffer);
  void accept_all();
  void received(const io_uring_cqe& answer);

  const peer::frame_settings& options_;
  const std::size_t buffer_bytes_;
  const peer::owned_fd dir_;
  const peer::owned_fd stop_;
  const peer::owned_fd listener_;
  io_uring ring_{};
  io_uring_buf_ring* buffers_ = nullptr;
  char* memory_ = nullptr;
  std::unordered_map<std::uint64_t, connection> connections_;
  std::uint64_t accepted_ = 0;
  std::uint64_t calls_ = 0;  // io_uring_enter, since they were last told
};

server::server(const peer::frame_settings& options)
    : options_(options),
      buffer_bytes_(options.buffer_bytes > 0 ? options.buffer_bytes / buffer_count : 64 * 1024),
      dir_(peer::open_dir(options.common)),
      stop_(peer::stop_signal(options.common)),
      listener_(peer::listen(options.common)) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
  params.cq_entries = 4096;
  check(::io_uring_queue_init_params(512, &ring_, &params), "io_uring_queue_init_params");
  make_buffers();
}

server::~server() {
  ::io_uring_queue_exit(&ring_);
  std::free(buffers_);
  std::free(memory_);
}

void server::check(int result, const char* what) {
  errno = -result;
  if (result < 0) peer::fail(options_.common, what);
}

void server::make_buffers() {
  void* entries = std::aligned_alloc(peer::block_alignment, peer::block_alignment);
  static_assert(buffer_count * sizeof(io_uring_buf) <= peer::block_alignment);
  memory_ =
      static_cast<char*>(std::aligned_alloc(peer::block_alignment, buffer_count * buffer_bytes_));
  if (entries == nullptr || memory_ == nullptr) peer::fail(options_.common, "aligned_alloc");
  buffers_ = static_cast<io_uring_buf_ring*>(entries);
  ::io_uring_buf_ring_init(buffers_);
  io_uring_buf_reg registered{};
  registered.ring_addr = reinterpret_cast<std::uint64_t>(entries);
  registered.ring_entries = buffer_count;
  registered.bgid = group;
  check(::io_uring_register_buf_ring(&ring_, &registered, 0), "io_uring_register_buf_ring");
  for (unsigned at = 0; at < buffer_count; ++at) give_back(at);
}

io_uring_sqe* server::entry() {
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    ++calls_;
    check(::io_uring_submit(&ring_), "io_uring_submit");
    sqe = ::io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void server::poll(int fd, std::uint64_t event) {
  io_uring_sqe* sqe = entry();
  ::io_uring_prep_poll_add(sqe, fd, POLLIN);
  ::io_uring_sqe_set_data64(sqe, event);
}

void server::arm(std::uint64_t number) {
  io_uring_sqe* sqe = entry();
  ::io_uring_prep_recv_multishot(sqe, connections_.at(number).socket.get(), nullptr, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = group;
  ::io_uring_sqe_set_data64(sqe, number);
}

void server::give_back(unsigned buffer) {
  ::io_uring_buf_ring_add(buffers_, memory_ + buffer * buffer_bytes_,
                          static_cast<unsigned>(buffer_bytes_), static_cast<unsigned short>(buffer),
                          ::io_uring_buf_ring_mask(buffer_count), 0);
  ::io_uring_buf_ring_advance(buffers_, 1);
}

void server::accept_all() {
  while (peer::owned_fd socket = peer::accept(options_.common, listener_, 0)) {
    const std::uint64_t number = accepted_++;
    connections_.try_emplace(number, std::move(socket), options_, dir_.get(), number);
    arm(number);
  }
  poll(listener_.get(), accept_event);
}

void server::received(const io_uring_cqe& answer) {
  const auto found = connections_.find(answer.user_data);
  const bool has_buffer = (answer.flags & IORING_CQE_F_BUFFER) != 0;
  const unsigned buffer = answer.flags >> IORING_CQE_BUFFER_SHIFT;
  if (found == connections_.end()) {  // answered and dropped, and this is the end of its op
    if (has_buffer) give_back(buffer);
    return;
  }
  peer::copied_frames& frames = found->second.frames;
  bool fine = answer.res > 0 || answer.res == -ENOBUFS;
  if (has_buffer) {
    if (answer.res > 0)
      fine = frames.take(memory_ + buffer * buffer_bytes_, static_cast<std::size_t>(answer.res));
    give_back(buffer);
  }
  if (!fine || frames.block().done()) {
    peer::answer_framed(found->second.socket.get(), fine, std::exchange(calls_, 0),
                        frames.block().sum());
    ::shutdown(found->second.socket.get(), SHUT_RDWR);  // the op holds the socket, and ends now
    connections_.erase(found);
  } else if ((answer.flags & IORING_CQE_F_MORE) == 0) {
    arm(answer.user_data);
  }
}

int server::run() {
  poll(stop_.get(), stop_event);
  accept_all();
  while (true) {
    ++calls_;
    const int entered = ::io_uring_submit_and_wait(&ring_, 1);
    if (entered != -EINTR) check(entered, "io_uring_submit_and_wait");
    io_uring_cqe* answers[batch];
    const unsigned count = ::io_uring_peek_batch_cqe(&ring_, answers, batch);
    for (unsigned at = 0; at < count; ++at) {
      const io_uring_cqe answer = *answers[at];
      if (answer.user_data == stop_event) return 0;
      if (answer.user_data == accept_event) {
        accept_all();
      } else {
        received(answer);
      }
    }
    ::io_uring_cq_advance(&ring_, count);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const peer::frame_settings options = peer::parse_framed(argc, argv);
  return server(options).run();
}
