// Frames by io_uring's multishot receive: one op per connection that answers again and again, each
// time with one of a ring of provided buffers; payloads are copied to their places in a block.
//
//   recv_framed_multishot [--bundles] [--buffers N] ...   (the rest as in framed.hpp)
//
// With --bundles an answer brings as many buffers as there were bytes for
// (IORING_RECVSEND_BUNDLE); refused where a trial of them at the start goes wrong.
//
// Fair settings: one thread, one ring with deferred task work, so that many answers come with one
// call; 64 buffers of 64 KiB: a smaller ring is hotter, and dearer, because the kernel copies
// slowly to what the CPU has just read. A buffer goes back as soon as it was copied from. An op
// that ended for lack of buffers is armed again after the buffers of its batch went back.
#include <liburing.h>

#include <bit>
#include <cstring>
#include <unordered_map>

#include "framed.hpp"
#include "provided_buffers.hpp"

namespace {

constexpr unsigned buffer_count = 64;
constexpr unsigned buffer_count_max = 32'768;  // io_uring_register_buf_ring(3)
constexpr std::size_t buffers_bytes = 4 << 20;
constexpr unsigned batch = 64;  // completions looked at between two submissions

struct choices {
  peer::frame_settings frames;
  bool bundles = false;
  unsigned buffers = buffer_count;
};

choices parse(int argc, char** argv) {
  choices made;
  made.frames.common.program = ::basename(argv[0]);
  std::vector<char*> others = {argv[0]};
  for (int at = 1; at < argc; ++at) {
    const std::string_view name = argv[at];
    if (name == "--bundles") {
      made.bundles = true;
    } else if (name == "--buffers" && at + 1 < argc) {
      made.buffers = static_cast<unsigned>(
          peer::parse_number(made.frames.common, argv[++at], buffer_count_max));
      if (!std::has_single_bit(made.buffers))
        peer::refuse(made.frames.common, "--buffers: not a power of two");
    } else {
      others.push_back(argv[at]);
    }
  }
  made.frames = peer::parse_framed(static_cast<int>(others.size()), others.data());
  return made;
}

class server {
 public:
  explicit server(const choices& chosen);
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
  io_uring_sqe* entry();
  void poll(int fd, std::uint64_t event);
  void arm(std::uint64_t number);
  void accept_all();
  void received(const io_uring_cqe& answer);

  const peer::frame_settings& options_;
  const bool bundles_;
  const peer::owned_fd dir_;
  const peer::owned_fd stop_;
  const peer::owned_fd listener_;
  peer::provided_buffers buffers_;
  io_uring ring_{};
  std::unordered_map<std::uint64_t, connection> connections_;
  std::uint64_t accepted_ = 0;
  std::uint64_t calls_ = 0;  // io_uring_enter, since they were last told
};

server::server(const choices& chosen)
    : options_(chosen.frames),
      bundles_(chosen.bundles),
      dir_(peer::open_dir(options_.common)),
      stop_(peer::stop_signal(options_.common)),
      listener_(peer::listen(options_.common)),
      buffers_(chosen.buffers, (options_.buffer_bytes > 0 ? options_.buffer_bytes : buffers_bytes) /
                                   chosen.buffers) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
  params.cq_entries = 4096;
  check(::io_uring_queue_init_params(512, &ring_, &params), "io_uring_queue_init_params");
  check(buffers_.begin(ring_), "io_uring_register_buf_ring");
}

server::~server() { ::io_uring_queue_exit(&ring_); }

void server::check(int result, const char* what) {
  errno = -result;
  if (result < 0) peer::fail(options_.common, what);
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
  peer::provided_buffers::use(*sqe, bundles_);
  ::io_uring_sqe_set_data64(sqe, number);
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
  if (found == connections_.end()) {  // answered and dropped, and this is the end of its op
    buffers_.take(answer, [](const char*, std::size_t) { return false; });
    return;
  }
  peer::copied_frames& frames = found->second.frames;
  bool fine = answer.res > 0 || answer.res == -ENOBUFS;
  fine = buffers_.take(answer, [&frames](const char* data, std::size_t bytes) {
    return frames.take(data, bytes);
  }) && fine;
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
  const choices chosen = parse(argc, argv);
  if (chosen.bundles) {
    if (const std::string why = peer::bundle_trial::run(); !why.empty())
      peer::refuse_to_start(chosen.frames.common, why);
  }
  return server(chosen).run();
}
