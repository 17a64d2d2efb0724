#include "server.hpp"

#include <fmt/format.h>

#include <utility>

namespace sluiced {

start_failure explain_thread(const std::system_error& refused) {
  return {1, fmt::format("cannot start a thread: {}; raise the limit of processes (ulimit -u) or "
                         "lower --engines",
                         refused.code().message())};
}

server::server(server_options options, const sluice::knobs& knobs)
    : options_(std::move(options)),
      going_(go_.get_future().share()),
      all_ended_(static_cast<std::ptrdiff_t>(options_.engines)) {
  for (unsigned i = 0; i < options_.engines; ++i)
    shards_.push_back(std::make_unique<shard>(i, knobs, options_.descriptors, shards_, locks_));
}

server::~server() {
  if (!gone_) go_.set_value(false);
  join();
}

// One after the other: the first one's port is everybody's.
std::expected<std::string, start_failure> server::start() {
  std::string address = options_.listen;
  for (const auto& one : shards_) {
    const started done = start_shard(*one, address);
    if (!done) return std::unexpected(done.error());
    address = one->address();
  }
  return address;
}

server::started server::start_shard(shard& one, const std::string& address) {
  std::promise<started> tell;
  std::future<started> told = tell.get_future();
  try {
    threads_.emplace_back([this, &one, address, promise = std::move(tell)]() mutable {
      live(one, address, std::move(promise));
    });
  } catch (const std::system_error& refused) {
    return std::unexpected(explain_thread(refused));
  }
  return told.get();
}

// The life of a shard's thread. No engine goes away before all have ended: the metrics page of one
// reads the counters of the others.
void server::live(shard& one, const std::string& address, std::promise<started> tell) {
  started done = one.start(options_.root, address, options_.engines > 1);
  if (done && one.index() == 0 && !options_.control.empty())
    done = one.open_control(options_.control);
  const bool sound = done.has_value();
  tell.set_value(std::move(done));
  if (sound && going_.get()) {
    one.run();
    all_ended_.arrive_and_wait();
    // What has been told to stop may have ended before stop() let go of it.
    const std::lock_guard stopped(stopping_);
  }
  one.close();
}

void server::run() {
  gone_ = true;
  go_.set_value(true);
  join();
}

void server::stop() {
  const std::lock_guard stopping(stopping_);
  for (const auto& one : shards_) one->stop();
}

void server::join() { threads_.clear(); }

}  // namespace sluiced
