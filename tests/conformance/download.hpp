// A download as a server would run it: a range of a file in the folder, to a peer with a script.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "conformance/suite.hpp"
#include "conformance/upload.hpp"

namespace conformance {

inline sluice::task<sluice::result<sluice::receipt>> send_named(sluice::engine& e,
                                                                sluice::stream to,
                                                                std::filesystem::path folder,
                                                                std::string name,
                                                                sluice::send_options options) {
  sluice::result<sluice::directory> in = co_await sluice::directory::open(e, folder.string());
  if (!in) co_return std::unexpected(in.error());
  sluice::result<sluice::file> from = co_await in->open_file(name);
  if (!from) co_return std::unexpected(from.error());
  co_return co_await sluice::send_from_file(to, *from, options);
}

struct sent {
  sluice::result<sluice::receipt> outcome = sluice::fail(EINPROGRESS, "test");
  std::vector<std::byte> arrived;
};

// Sends a range of the file "source" to a peer whose script gives what it took.
template <class Script>
sent send_range(world& w, const sluice::send_options& options, Script script) {
  stream_pair ends = stream_pair::tcp();
  sent s;
  peer taker(ends.take_theirs(), [&s, script](int fd) { s.arrived = script(fd); });
  s.outcome = w.run(send_named(w.engine(), adopt(w.engine(), ends.take_ours()), w.folder().path(),
                               "source", options));
  taker.join(w);
  w.settle();
  return s;
}

inline sluice::send_options range(std::uint64_t offset, std::uint64_t length) {
  sluice::send_options options;
  options.offset = offset;
  options.length = length;
  return options;
}

inline std::vector<std::byte> take_with_pauses(int fd, std::chrono::microseconds pause) {
  std::vector<std::byte> taken;
  std::vector<std::byte> buffer(50'021);
  while (true) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return taken;
    taken.insert(taken.end(), buffer.begin(), buffer.begin() + got);
    std::this_thread::sleep_for(pause);
  }
}

inline std::vector<std::byte> take_slowly(int fd) { return take_with_pauses(fd, 200us); }

}  // namespace conformance
