// One torrent in transfer: its files, its pieces, its peers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blame.hpp"
#include "disk_survey.hpp"
#include "metainfo.hpp"
#include "patience.hpp"
#include "peer.hpp"
#include "picker.hpp"
#include "piece_checker.hpp"
#include "sluice/engine.hpp"
#include "sluice/stream.hpp"
#include "store.hpp"

namespace bt {

struct peer_address {
  std::string given;                   // on the command line
  std::vector<std::string> addresses;  // as sluice::stream::connect wants them; at least one
};

// Where blocks that are given out are read from.
enum class cache_choice : std::uint8_t {
  cached,  // the page cache
  direct,  // the disk, by O_DIRECT where the filesystem can
};

struct session_options {
  bool fetch = false;  // else only what is in the directory is given out
  std::string directory;
  std::vector<peer_address> peers;
  std::string listen;  // empty: nobody can connect
  cache_choice cache = cache_choice::cached;
  std::chrono::seconds give_up{60};     // without any progress
  std::chrono::seconds answer{30};      // without one block of those that a peer was asked for
  std::chrono::seconds keep_alive{90};  // without a word of ours
};

struct session_stats {
  std::uint64_t received_bytes = 0;  // of blocks that were wanted
  std::uint64_t found_bytes = 0;     // right on the disk at the start
  std::uint64_t sent_bytes = 0;
  std::uint64_t rejected_pieces = 0;
  std::uint32_t peers = 0;  // connected now
};

// Called on the engine's thread.
struct session_events {
  std::move_only_function<void(const std::string& address)> listening;
  std::move_only_function<void()> begun;  // the disk was checked, the transfer begins
  std::move_only_function<void(const std::string& text)> notice;
};

// Loop thread only, but where it says otherwise. The engine's run() returns when it has ended.
class session {
 public:
  session(sluice::engine& on, const metainfo& of, session_options options, session_events events);
  session(const session&) = delete;
  session& operator=(const session&) = delete;
  ~session();

  void start();
  // Ends it; what was received is on the disk then.
  void stop();

  // Empty: it did what it was to do. After run().
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] bool complete() const { return picker_.complete(); }
  [[nodiscard]] const session_stats& stats() const { return stats_; }
  [[nodiscard]] const picker& pieces() const { return picker_; }
  [[nodiscard]] const layout& where() const { return layout_; }

  // For its peers.
  [[nodiscard]] sluice::engine& engine() { return engine_; }
  [[nodiscard]] store& files() { return *store_; }
  [[nodiscard]] picker& blocks() { return picker_; }
  [[nodiscard]] piece_checker& checker() { return *checker_; }
  [[nodiscard]] session_stats& counts() { return stats_; }
  [[nodiscard]] handshake own_handshake() const { return {info_.info_hash, id_}; }
  [[nodiscard]] bool fetches() const { return options_.fetch && !ending_; }
  [[nodiscard]] bool ending() const { return ending_; }
  [[nodiscard]] std::chrono::seconds answer_time() const { return options_.answer; }
  [[nodiscard]] std::chrono::seconds keep_alive_time() const { return options_.keep_alive; }
  void joined(std::shared_ptr<peer> who);
  void left(source_id who);
  [[nodiscard]] peer* find(source_id who);
  void ask_all();  // some blocks are wanted again
  void fail(const std::string& why);
  // A block that was asked for could not be read; said once for each piece.
  void unreadable(std::uint32_t piece, const sluice::error& why);

 private:
  using clock = patience::clock;

  sluice::task<void> open();
  void check_disk();
  void begin();
  bool listen();
  sluice::task<void> accept_all();
  sluice::task<void> answer(sluice::stream caller, source_id id);
  void forget_unless_of_use(source_id id, const peer_end& ended);
  sluice::task<void> connect(std::size_t which);
  sluice::task<sluice::result<sluice::stream>> call(const peer_address& to, source_id id);
  sluice::task<bool> try_once(const peer_address& to, std::string& why, bool& was_of_use);
  void connector_ended(std::size_t which, const std::string& why);
  void fail_without_peers();
  sluice::task<void> watch();
  [[nodiscard]] patience::sight look() const;
  void give_up(patience::verdict why);
  [[nodiscard]] bool stalled_here() const;
  [[nodiscard]] bool memory_runs_short() const;
  void judge(std::uint32_t piece, piece_checker::verdict verdict);
  void found_wrong(std::uint32_t piece);
  void accuse(source_id sender, std::uint32_t piece);
  sluice::task<void> remember(std::uint32_t piece, std::vector<source_id> senders);
  void fetch_again(std::uint32_t piece);
  sluice::task<void> compare(std::uint32_t piece);
  sluice::task<void> finish();
  void end();
  void keep(sluice::task_handle task) { tasks_.push_back(task); }

  sluice::engine& engine_;
  const metainfo& info_;
  const session_options options_;
  session_events events_;
  const layout layout_;
  peer_id id_{};

  std::unique_ptr<store> store_;
  std::optional<disk_survey> survey_;
  picker picker_;
  std::unique_ptr<piece_checker> checker_;
  std::optional<sluice::listener> listener_;
  std::map<source_id, std::shared_ptr<peer>> peers_;
  std::map<source_id, sluice::task_handle> callers_;  // connections that others made
  blame blame_;
  std::set<std::uint32_t> unreadable_;  // pieces, said to be
  source_id last_id_ = 0;
  std::vector<sluice::task_handle> tasks_;  // that end with the session
  std::vector<std::string> last_words_;     // of each address
  std::size_t connectors_ = 0;

  session_stats stats_;
  std::string failure_;
  bool ending_ = false;
};

}  // namespace bt
