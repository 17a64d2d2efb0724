// All shards of the process and their threads.
#pragma once

#include <barrier>
#include <cstdint>
#include <expected>
#include <future>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "shard.hpp"

namespace sluiced {

// The machine refuses a thread.
[[nodiscard]] start_failure explain_thread(const std::system_error& refused);

struct server_options {
  std::string root;
  std::string listen;
  std::string control;  // path of the control socket; empty: none
  unsigned engines = 1;
  std::uint64_t descriptors = 1024;  // RLIMIT_NOFILE
};

// Used by one thread, but for stop().
class server {
 public:
  server(server_options options, const sluice::knobs& knobs);
  ~server();

  // Starts every engine; yields the address, with the port the kernel chose. Nothing is accepted
  // before run().
  std::expected<std::string, start_failure> start();
  void run();   // until stop(), and until every connection has ended
  void stop();  // any thread, after start()

 private:
  using started = std::expected<void, start_failure>;

  started start_shard(shard& one, const std::string& address);
  void live(shard& one, const std::string& address, std::promise<started> tell);
  void join();

  const server_options options_;
  path_locks locks_;
  fleet shards_;
  std::promise<bool> go_;  // true: run; false: another shard could not start
  std::shared_future<bool> going_;
  bool gone_ = false;
  std::barrier<> all_ended_;
  std::mutex stopping_;  // held by stop(): no engine goes away meanwhile
  std::vector<std::jthread> threads_;
};

}  // namespace sluiced
