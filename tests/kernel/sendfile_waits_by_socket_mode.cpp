// Whether sendfile and splice to a full socket wait is said by the mode of the socket alone:
// without O_NONBLOCK they wait in spite of SPLICE_F_NONBLOCK, with it they say EAGAIN.
#include <signal.h>
#include <sys/sendfile.h>

#include <atomic>
#include <thread>

#include "probe.hpp"

namespace {

constexpr std::size_t pipe_bytes = 65536;

// A pipe full of bytes and the bytes of a file, to be sent to a socket whose buffer is full.
struct full_ends {
  full_ends() {
    probe::must(::ftruncate(file.get(), 1 << 20), "ftruncate");
    const int flags = static_cast<int>(probe::must(::fcntl(near.get(), F_GETFL), "F_GETFL"));
    probe::must(::fcntl(near.get(), F_SETFL, flags | O_NONBLOCK), "F_SETFL");
    const std::string bytes(1 << 16, 'x');
    while (::send(near.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) continue;
    const std::string page(pipe_bytes, 'y');
    probe::must(::write(write_end.get(), page.data(), page.size()), "write to the pipe");
  }
  void make_blocking() const {
    const int flags = static_cast<int>(probe::must(::fcntl(near.get(), F_GETFL), "F_GETFL"));
    probe::must(::fcntl(near.get(), F_SETFL, flags & ~O_NONBLOCK), "F_SETFL");
  }
  long splice_once() const {
    return probe::result_of(
        ::splice(read_end.get(), nullptr, near.get(), nullptr, pipe_bytes, SPLICE_F_NONBLOCK));
  }
  long sendfile_once() const {
    off_t offset = 0;
    return probe::result_of(::sendfile(near.get(), file.get(), &offset, 1 << 20));
  }

  probe::temp_dir dir;
  probe::descriptor file = dir.unnamed_file();
  probe::descriptor_pair ends = probe::tcp_pair();
  probe::descriptor_pair pipe = probe::pipe_pair();
  const probe::descriptor& near = ends.first;
  const probe::descriptor& far = ends.second;
  const probe::descriptor& read_end = pipe.first;
  const probe::descriptor& write_end = pipe.second;
};

void says_eagain() {
  const full_ends to;
  probe::expect_equal(to.splice_once(), -EAGAIN, "splice to a full non-blocking socket");
  probe::expect_equal(to.sendfile_once(), -EAGAIN, "sendfile to a full non-blocking socket");
}

void waits() {
  const full_ends to;
  to.make_blocking();
  std::atomic<bool> returned{false};
  std::thread caller([&] {
    (void)to.splice_once();
    returned = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const bool early = returned;
  ::shutdown(to.near.get(), SHUT_RDWR);  // ends the wait
  caller.join();
  probe::expect(!early, "splice to a full blocking socket waits, SPLICE_F_NONBLOCK or not");
}

}  // namespace

int main() {
  return probe::run([] {
    ::signal(SIGPIPE, SIG_IGN);
    says_eagain();
    waits();
  });
}
