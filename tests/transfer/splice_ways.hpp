// Every way to splice, on every backend and filesystem: what the suites of both directions run
// over.
#pragma once

#include <fcntl.h>
#include <linux/tcp.h>

#include <string>
#include <vector>

#include "conformance/suite.hpp"

namespace splice_ways {

inline const std::vector<std::string>& all() {
  static const std::vector<std::string> ways{"inline", "pool", "ring"};
  return ways;
}

// Around every edge of the first three pages, and odd lengths between them.
inline std::vector<std::uint64_t> small_lengths() {
  std::vector<std::uint64_t> lengths;
  for (const std::uint64_t edge : {0U, 512U, 4096U, 8192U, 12'288U}) {
    if (edge > 0) lengths.push_back(edge - 1);
    lengths.push_back(edge);
    lengths.push_back(edge + 1);
  }
  for (std::uint64_t odd = 777; odd < 12'288; odd += 1554) lengths.push_back(odd);
  return lengths;
}

// A second descriptor of a socket, to look at it while and after an engine has it.
class look {
 public:
  explicit look(int fd) : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {}
  look(const look&) = delete;
  look& operator=(const look&) = delete;
  ~look() { ::close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

// Segments with data that a TCP socket has sent.
inline std::uint32_t segments_sent(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0);
  return info.tcpi_data_segs_out;
}

// At rest: every pipe is back, and none has anything in it, or the pool would have closed it.
inline void check_pipes(conformance::world& w) { CHECK(w.engine().core().pipes().taken() == 0); }

// Keeps a pipe from the others for so long.
inline sluice::task<void> hold(sluice::engine& on, sluice::pipe_lease held,
                               std::chrono::milliseconds time) {
  sluice::op_await sleeping = on.sleep_for(time);
  const sluice::result<std::size_t> slept = co_await sleeping;
  CHECK(slept.has_value());
  held.reset();
}

// check(world, way) with every way and `path_knob` forced to splice.
template <class Check>
void for_each(const char* path_knob, conformance::knob_list more, Check check) {
  for (const conformance::setting& on : conformance::every_setting()) {
    CAPTURE(on.name);
    for (const std::string& via : all()) {
      CAPTURE(via);
      conformance::world w(on, more);
      REQUIRE(w.engine().set_knob("sluice.splice.via", via).has_value());
      REQUIRE(w.engine().set_knob(path_knob, "splice").has_value());
      check(w, via);
      check_pipes(w);
    }
  }
}

}  // namespace splice_ways
