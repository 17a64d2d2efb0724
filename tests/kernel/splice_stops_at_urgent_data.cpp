// A splice from a TCP socket moves nothing once the next byte is urgent data; a receive goes on
// behind it.
#include <sys/ioctl.h>

#include "probe.hpp"

namespace {

constexpr unsigned flags = SPLICE_F_NONBLOCK;

long splice_from(const probe::descriptor& socket, const probe::descriptor& pipe) {
  return probe::result_of(
      ::splice(socket.get(), nullptr, pipe.get(), nullptr, std::size_t{1} << 16, flags));
}

void show() {
  auto [near, far] = probe::tcp_pair();
  const auto [read_end, write_end] = probe::pipe_pair();
  probe::must(::fcntl(near.get(), F_SETFL, O_NONBLOCK), "F_SETFL");
  probe::send_all(far.get(), "abc");
  probe::must(::send(far.get(), "!", 1, MSG_OOB), "send with MSG_OOB");
  probe::send_all(far.get(), "more");
  probe::expect(probe::becomes_ready(near.get(), POLLIN, probe::patience_ms), "POLLIN");
  probe::expect_equal(splice_from(near, write_end), 3, "splice up to the urgent byte");
  probe::expect(probe::becomes_ready(near.get(), POLLIN, probe::patience_ms),
                "POLLIN at the urgent byte");
  probe::expect_equal(splice_from(near, write_end), -EAGAIN, "splice at the urgent byte");
  probe::expect_equal(::sockatmark(near.get()), 1, "sockatmark");
  int readable = 0;
  probe::must(::ioctl(near.get(), FIONREAD, &readable), "FIONREAD");
  probe::expect_equal(readable, 0, "FIONREAD, which counts up to the urgent byte");
  probe::must(::shutdown(far.get(), SHUT_WR), "shutdown");
  probe::expect(probe::becomes_ready(near.get(), POLLRDHUP, probe::patience_ms), "POLLRDHUP");
  probe::expect_equal(splice_from(near, write_end), 0, "splice at the urgent byte after a FIN");
  char got[8];
  probe::expect_equal(probe::result_of(::recv(near.get(), got, sizeof got, 0)), 4,
                      "recv at the urgent byte skips it");
  probe::expect(std::string_view(got, 4) == "more", "and gives what is behind it");
  probe::expect_equal(::sockatmark(near.get()), 0, "sockatmark behind it");
}

}  // namespace

int main() { return probe::run(show); }
