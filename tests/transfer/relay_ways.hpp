// A relay between two peers that are plain threads on plain sockets, by every way to carry it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "conformance/upload.hpp"
#include "sluice/relay.hpp"
#include "transfer/splice_ways.hpp"

namespace relay_ways {

using namespace conformance;

struct relayed {
  sluice::result<sluice::relay_receipts> outcome = sluice::fail(EINPROGRESS, "relay");
  sluice::relay_receipts progress;
  int told = 0;
  [[nodiscard]] int failure() const { return outcome ? 0 : outcome.error().code; }
};

// What the engine's side of a relay owns: both sockets, closed when it ends.
inline sluice::task<relayed> relay_once(sluice::stream first, sluice::stream second,
                                        sluice::relay_options options = {}) {
  relayed r;
  r.outcome = co_await sluice::relay(first, second, options, &r.progress);
  co_return r;
}

// Two connections; ours() of each are for the relay.
struct joint {
  stream_pair left = stream_pair::tcp();
  stream_pair right = stream_pair::tcp();

  sluice::task<relayed> task(world& w, sluice::relay_options options = {}) {
    return relay_once(adopt(w.engine(), left.take_ours()), adopt(w.engine(), right.take_ours()),
                      options);
  }
  sluice::task_handle start(world& w, relayed& last, sluice::relay_options options = {}) {
    return w.engine().start(task(w, options), [&last](relayed r) {
      r.told = last.told + 1;
      last = std::move(r);
    });
  }
};

// A peer that sends `bytes`, says that this was all, and takes what comes until the end.
inline void send_then_take(int fd, std::span<const std::byte> bytes, std::vector<std::byte>& got) {
  put_dribbling(fd, bytes, bytes.size());
  ::shutdown(fd, SHUT_WR);
  got = take_all(fd);
}
// One that first takes everything and then sends.
inline void take_then_send(int fd, std::span<const std::byte> bytes, std::vector<std::byte>& got) {
  got = take_all(fd);
  put_dribbling(fd, bytes, bytes.size());
}

// Relays `there` and `back` between two peers; both must arrive whole.
template <class First, class Second>
relayed exchange(world& w, joint ends, std::span<const std::byte> there,
                 std::span<const std::byte> back, First first, Second second) {
  std::vector<std::byte> at_second;
  std::vector<std::byte> at_first;
  peer left(ends.left.take_theirs(), [&](int fd) { first(fd, there, at_first); });
  peer right(ends.right.take_theirs(), [&](int fd) { second(fd, back, at_second); });
  relayed r = w.run(ends.task(w));
  left.join(w);
  right.join(w);
  CHECK(same_bytes(at_second, there));
  CHECK(same_bytes(at_first, back));
  return r;
}

// How much a blocking peer gets rid of before nothing is taken for a while.
inline std::uint64_t stuffed(int fd, const std::vector<std::byte>& bytes, std::atomic<bool>& stop) {
  std::uint64_t sent = 0;
  for (int idle = 0; idle < 20 && !stop && sent < bytes.size();) {
    const ssize_t put =
        ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    idle = put > 0 ? 0 : idle + 1;
    if (put > 0) sent += static_cast<std::uint64_t>(put);
    if (put < 0) std::this_thread::sleep_for(5ms);
  }
  return sent;
}

// Every way: the backends, with each way to splice and with copying.
struct way {
  setting on;
  std::string path;  // sluice.relay.path
  std::string via;   // sluice.splice.via
  [[nodiscard]] bool splices() const { return path == "splice"; }
};
inline std::vector<way> every_way() {
  std::vector<way> all;
  for (const std::string& backend : support::backends()) {
    const setting on{backend, backend, std::filesystem::current_path().string(), false, ""};
    for (const std::string& via : splice_ways::all()) all.push_back({on, "splice", via});
    all.push_back({on, "copy", "inline"});
  }
  return all;
}

template <class Check>
void for_each(knob_list more, Check check) {
  for (const way& by : every_way()) {
    CAPTURE(by.on.name);
    CAPTURE(by.path);
    CAPTURE(by.via);
    world w(by.on, more);
    REQUIRE(w.engine().set_knob("sluice.splice.via", by.via).has_value());
    REQUIRE(w.engine().set_knob("sluice.relay.path", by.path).has_value());
    check(w, by);
    w.settle();
    splice_ways::check_pipes(w);
  }
}

}  // namespace relay_ways
