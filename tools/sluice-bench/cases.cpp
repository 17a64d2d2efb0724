#include "cases.hpp"

#include <array>

namespace bench {

namespace {

constexpr std::array table = {
    bench_case{"receive", "socket -> file: sizes and connections, three states of storage",
               run_receive},
    bench_case{"send", "file -> socket: sizes and connections", run_send},
    bench_case{"durable", "16 KiB objects with durable names, against concurrency", run_durable},
    bench_case{"idle", "idle keep-alive connections: memory and CPU of the server", run_idle},
    bench_case{"latency", "open loop at shares of the maximum, from the scheduled start",
               run_latency},
    bench_case{"start", "from exec to `listening`", run_start},
    bench_case{"gets", "16 KiB GETs over 32 keep-alive connections", run_gets},
    bench_case{"out_of_order", "16 KiB blocks of one file in random order -> disk",
               run_out_of_order},
    bench_case{"framed", "frames with aligned payloads: copy, more calls, or predictive scatter",
               run_framed},
    bench_case{"relay", "socket -> socket: one connection and several, through one relay",
               run_relay},
    bench_case{"copy", "file -> file on one filesystem: dense, and full of holes", run_copy},
    bench_case{"torrent", "a torrent from one libtorrent seeder: sluice-bt beside libtorrent",
               run_torrent},
};

}  // namespace

std::span<const bench_case> cases() { return table; }

const bench_case* find_case(const std::string& name) {
  for (const bench_case& one : table) {
    if (name == one.name) return &one;
  }
  return nullptr;
}

}  // namespace bench
