// The relay of the manual pages: splice from one socket into a pipe and from the pipe into the
// other, both ways.
//
// Fair settings: one thread and one epoll, non-blocking sockets, a pipe of 256 KiB for each
// direction of each connection that lives as long as it does; each event lets a direction go on
// until it would wait.
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <vector>

#include "peer.hpp"

namespace {

constexpr std::size_t pipe_bytes = 256 * 1024;

struct channel {
  peer::owned_fd input;
  peer::owned_fd output;
  std::size_t held = 0;
  bool source_ended = false;
  bool ended = false;

  bool open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    output = peer::owned_fd(ends[0]);
    input = peer::owned_fd(ends[1]);
    ::fcntl(input.get(), F_SETPIPE_SZ, static_cast<int>(pipe_bytes));
    return true;
  }
  // False: the connection is broken.
  bool move(int from, int to) {
    constexpr unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    while (!ended) {
      if (held == 0 && !source_ended) {
        const ssize_t got = ::splice(from, nullptr, input.get(), nullptr, pipe_bytes, flags);
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        if (got == 0) source_ended = true;
        held = static_cast<std::size_t>(got);
      }
      if (held == 0) {
        ended = true;
        return ::shutdown(to, SHUT_WR) == 0;
      }
      const ssize_t put = ::splice(output.get(), nullptr, to, nullptr, held, flags);
      if (put < 0) return errno == EAGAIN || errno == EINTR;
      held -= static_cast<std::size_t>(put);
    }
    return true;
  }
};

struct joint {
  peer::owned_fd first;
  peer::owned_fd second;
  channel there;
  channel back;
  bool over = false;

  void go_on() {
    over = !there.move(first.get(), second.get()) || !back.move(second.get(), first.get()) ||
           (there.ended && back.ended);
  }
};

peer::owned_fd connect_to_target(const peer::settings& options) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options.target_port);
  if (::inet_pton(AF_INET, options.target_address.c_str(), &address.sin_addr) != 1)
    peer::refuse(options, "not an IPv4 address: " + options.target_address);
  peer::owned_fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  if (!made ||
      ::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    peer::fail(options, "connect");
  ::setsockopt(made.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  ::fcntl(made.get(), F_SETFL, ::fcntl(made.get(), F_GETFL) | O_NONBLOCK);
  return made;
}

void watch(const peer::settings& options, int epoll, int fd, std::uint32_t events, joint* of) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = of;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) peer::fail(options, "epoll_ctl");
}

}  // namespace

int main(int argc, char** argv) {
  const peer::settings options = peer::parse(argc, argv, {"relay"});
  ::signal(SIGPIPE, SIG_IGN);
  const peer::owned_fd stop = peer::stop_signal(options);
  const peer::owned_fd listener = peer::listen(options);
  const peer::owned_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) peer::fail(options, "epoll_create1");
  joint stopping;
  joint accepting;
  watch(options, epoll.get(), stop.get(), EPOLLIN, &stopping);
  watch(options, epoll.get(), listener.get(), EPOLLIN, &accepting);
  std::vector<std::unique_ptr<joint>> all;
  std::array<epoll_event, 64> events;
  while (true) {
    const int ready = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < ready; ++i) {
      auto* of = static_cast<joint*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (of == &stopping) return 0;
      if (of != &accepting) {
        if (!of->over) of->go_on();
        continue;
      }
      while (peer::owned_fd socket = peer::accept(options, listener, SOCK_NONBLOCK)) {
        auto made = std::make_unique<joint>();
        made->first = std::move(socket);
        made->second = connect_to_target(options);
        if (!made->there.open() || !made->back.open()) peer::fail(options, "pipe2");
        constexpr std::uint32_t both = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        watch(options, epoll.get(), made->first.get(), both, made.get());
        watch(options, epoll.get(), made->second.get(), both, made.get());
        all.push_back(std::move(made));
      }
    }
    std::erase_if(all, [](const std::unique_ptr<joint>& one) { return one->over; });
  }
}
