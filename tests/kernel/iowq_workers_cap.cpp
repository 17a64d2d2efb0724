// IORING_REGISTER_IOWQ_MAX_WORKERS sets how many worker threads a ring may have, bounded (files)
// and unbounded (sockets, pipes), and returns the values before; 0 asks without setting.
#include <algorithm>
#include <fstream>
#include <vector>

#include "probe.hpp"

namespace {

int workers() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.starts_with("iou-wrk")) ++count;
  }
  return count;
}

void show() {
  constexpr unsigned cap = 2;
  constexpr unsigned blocking_ops = 6;
  probe::ring ring(16);
  unsigned values[2] = {0, 0};
  const int refused = ::io_uring_register_iowq_max_workers(ring.get(), values);
  if (refused == -EINVAL) probe::skip("IORING_REGISTER_IOWQ_MAX_WORKERS is not known");
  probe::expect_equal(refused, 0, "asking for the caps");
  const unsigned bounded = values[0];
  const unsigned unbounded = values[1];
  std::printf("caps at start: %u bounded, %u unbounded\n", bounded, unbounded);
  probe::expect(bounded > 0 && unbounded > 0, "both caps are set at start");

  values[0] = values[1] = cap;
  probe::expect_equal(::io_uring_register_iowq_max_workers(ring.get(), values), 0, "setting them");
  probe::expect(values[0] == bounded && values[1] == unbounded, "the values before come back");
  values[0] = values[1] = 0;
  probe::expect_equal(::io_uring_register_iowq_max_workers(ring.get(), values), 0, "asking again");
  probe::expect(values[0] == cap && values[1] == cap, "the new values are in force");

  // Splices from empty pipes: each holds its worker until the pipe's write end is closed.
  std::vector<probe::descriptor_pair> pipes;
  const auto [target_read, target_write] = probe::pipe_pair();
  for (unsigned i = 0; i < blocking_ops; ++i) {
    pipes.push_back(probe::pipe_pair());
    ring.queue(i, [&](io_uring_sqe* sqe) {
      ::io_uring_prep_splice(sqe, pipes.back().first.get(), -1, target_write.get(), -1, 1, 0);
    });
  }
  ring.submit();
  int seen = 0;  // on a loaded machine the first worker takes its time
  for (int waited_ms = 0; seen == 0 && waited_ms < probe::patience_ms; waited_ms += 10) {
    probe::expect(!ring.wait_for(10).has_value(), "the splices block");
    seen = workers();
  }
  ring.wait_for(50);  // time for more workers than the cap allows, were there any
  seen = std::max(seen, workers());
  for (auto& [read_end, write_end] : pipes) write_end.close();
  for (unsigned i = 0; i < blocking_ops; ++i) {
    probe::expect_equal(ring.wait().result, 0, "a splice from an ended pipe");
  }
  probe::expect(seen >= 1 && seen <= static_cast<int>(cap),
                std::to_string(blocking_ops) + " blocking ops share at most " +
                    std::to_string(cap) + " workers, seen " + std::to_string(seen));
}

}  // namespace

int main() { return probe::run(show); }
