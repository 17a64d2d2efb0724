// One engine of the server, on its own thread: its listener, its connections, its end.
#pragma once

#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "log.hpp"
#include "path_locks.hpp"
#include "settings.hpp"
#include "sluice/control.hpp"
#include "sluice/engine.hpp"
#include "sluice/file.hpp"
#include "sluice/stream.hpp"
#include "spare_memory.hpp"
#include "tally.hpp"

namespace sluiced {

class shard;

// Every shard of the process; fixed before the first connection is accepted.
using fleet = std::vector<std::unique_ptr<shard>>;

// Why a server does not start, and the exit status that says so.
struct start_failure {
  int status = 1;  // 2: the command line is wrong; 1: the machine refuses
  std::string text;
};

// Why a connection is open: for its requests, or only to hear that there are too many.
enum class purpose : std::uint8_t { serve, refuse };

// What the shard knows of an open connection. Lives in the connection's frame, and is all of ours
// that an idle connection holds besides its op.
class connection : public boost::intrusive::list_base_hook<> {
 public:
  connection(shard& home, sluice::stream& peer, purpose why);
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection();

  // Between requests: the shard may close it at any time.
  void rest();
  void wake();

  [[nodiscard]] shard& home() { return home_; }
  [[nodiscard]] sluice::stream& peer() { return peer_; }

 private:
  shard& home_;
  sluice::stream& peer_;
  purpose why_;
};

// All members but stop() are for the shard's thread, between start() and the end of run().
class shard {
 public:
  shard(unsigned index, sluice::knobs knobs, std::uint64_t descriptors, const fleet& all,
        path_locks& locks);

  // Makes the engine, opens the root, listens. On the thread that will run().
  std::expected<void, start_failure> start(const std::string& root, const std::string& address,
                                           bool reuse_port);
  // A control socket for all shards, carried by this one. Between start() and run().
  std::expected<void, start_failure> open_control(const std::string& path);
  void run();    // until stopped and every connection has ended
  void stop();   // any thread, once started: no new connections, the rest within the grace time
  void close();  // gives everything back; after the run() of every shard

  // A live knob, of the engine and of the server, from now on.
  sluice::result<void> set_knob(std::string_view name, std::string_view value);

  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] std::string address() const { return listener_->address(); }
  [[nodiscard]] sluice::engine& engine() { return *engine_; }
  [[nodiscard]] sluice::directory& root() { return root_; }
  [[nodiscard]] const settings& limits() const { return limits_; }
  [[nodiscard]] const fleet& all() const { return all_; }
  [[nodiscard]] path_locks& locks() { return locks_; }  // of all shards
  [[nodiscard]] rare_log& complaints() { return complaints_; }
  [[nodiscard]] tally& counts() { return counts_; }
  [[nodiscard]] const tally& counts() const { return counts_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  // Where bytes go that nobody will look at: shared by all connections that drain.
  [[nodiscard]] std::span<std::byte> sink() { return sink_; }

 private:
  friend class connection;
  using idle_list = boost::intrusive::list<connection>;

  std::expected<void, start_failure> open_root(const std::string& path);
  std::expected<void, start_failure> check_address_is_free(const std::string& address);
  void share_suspects();
  sluice::task<void> accept_loop();
  sluice::task<void> sweep_root();
  sluice::task<void> grace_time();
  sluice::task<void> give_memory_back();
  void admit(sluice::stream peer);
  [[nodiscard]] bool explain_accept(const sluice::error& problem);
  void begin_stop();
  [[nodiscard]] bool has_connections() const;
  [[nodiscard]] std::uint64_t connections_of_engine() const;
  [[nodiscard]] bool full() const;
  bool retire_idle();
  [[nodiscard]] settings limits_from(const sluice::knobs& knobs) const;
  void connection_begins(purpose why);
  void connection_ended(purpose why);
  [[nodiscard]] std::uint64_t busy() const;
  void note_quiet();

  // Fixed from start() on.
  const unsigned index_;
  const sluice::knobs knobs_;
  const fleet& all_;
  path_locks& locks_;
  const std::uint64_t descriptors_;
  settings limits_;  // but for live knobs
  std::vector<std::byte> sink_;

  // The engine before what must not outlive it.
  std::optional<sluice::engine> engine_;
  sluice::directory root_;
  std::optional<sluice::listener> listener_;
  std::optional<sluice::control_socket> control_;

  tally counts_;
  idle_list idle_;  // who has waited longest comes first
  spare_memory spare_;
  std::optional<sluice::task_handle> giving_back_;  // under way
  std::size_t refusing_ = 0;
  sluice::task_handle accepting_;
  sluice::task_handle sweeping_;
  sluice::task_handle controlling_;  // id 0, nobody's, without a control socket
  std::optional<sluice::task_handle> grace_;
  bool stopping_ = false;
  rare_log complaints_;
};

}  // namespace sluiced
