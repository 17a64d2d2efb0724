// The parts of one engine, wired together: what engine, stream, file and the transfers work with.
#pragma once

#include <atomic>
#include <boost/intrusive/set.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "backend/backend.hpp"
#include "backend/loop.hpp"
#include "core/closer.hpp"
#include "kernel/capabilities.hpp"
#include "kernel/epoll.hpp"
#include "kernel/fd.hpp"
#include "memory/arena.hpp"
#include "memory/buffer_pool.hpp"
#include "memory/pipe_pool.hpp"
#include "memory/provided_buffers.hpp"
#include "memory/registration.hpp"
#include "sluice/engine.hpp"
#include "tuning/counter_values.hpp"
#include "tuning/knob_values.hpp"

namespace sluice {

class ring_backend;

// What file operations and transfers ask of the capability table, looked up once.
struct file_capabilities {
  bool openat2 = false;
  bool proc_self_fd = false;
  bool unnamed_files = false;   // O_TMPFILE files can be given a name; each directory is tried
  bool splice = false;          // splice(2) and sendfile(2)
  bool zero_copy_send = false;  // by the ring, out of registered memory
  bool copy_file_range = false;
  bool receive_bundles = false;  // asked for, and tried
};

// What a folder further down keeps with its engine: made when first asked for, destroyed after the
// last op has ended and before the loop.
class engine_part {
 public:
  virtual ~engine_part() = default;
};

// Loop thread only, but for stop, wake and reading counters.
class engine_core {
 public:
  static result<std::unique_ptr<engine_core>> make(const sluice::knobs& settings, log_callback log);
  engine_core(const engine_core&) = delete;
  engine_core& operator=(const engine_core&) = delete;
  ~engine_core();  // cancels every task and drains: returns when the kernel owns nothing of ours

  [[nodiscard]] sluice::loop& loop() { return *loop_; }
  [[nodiscard]] backend& carrier() { return *backend_; }
  [[nodiscard]] buffer_class& blocks() { return *blocks_; }
  [[nodiscard]] buffer_class& heads() { return *heads_; }
  [[nodiscard]] pipe_pool& pipes() { return *pipes_; }
  // For multishot receives; null where no ring carries them.
  [[nodiscard]] provided_buffers* provided() { return provided_.get(); }
  [[nodiscard]] sluice::closer& closer() { return *closer_; }
  [[nodiscard]] tuning::counters& counters() { return counters_; }
  [[nodiscard]] const tuning::knob_values& values() const { return values_; }
  [[nodiscard]] const sluice::knobs& settings() const { return settings_; }
  [[nodiscard]] const kernel::capability_table& capabilities() const { return capabilities_; }
  [[nodiscard]] const file_capabilities& tried() const { return tried_; }
  [[nodiscard]] std::unique_ptr<engine_part>& storage_part() { return storage_part_; }

  void say(log_level level, std::string_view text) const;
  result<void> set_live(std::string_view name, std::string_view value);

  task_handle adopt(detail::root_task root);
  void cancel(task_handle which);
  void cancel_all();
  [[nodiscard]] std::size_t task_count() const { return task_count_of(tasks_); }

  void run();
  std::size_t turn(std::int64_t timeout_ns, std::size_t budget);
  void stop();
  int guest_fd();  // -errno

 private:
  struct by_id {
    bool operator()(const scope& a, const scope& b) const { return a.id < b.id; }
    bool operator()(const scope& a, std::uint64_t id) const { return a.id < id; }
    bool operator()(std::uint64_t id, const scope& b) const { return id < b.id; }
  };
  using task_set = boost::intrusive::set<
      scope, boost::intrusive::member_hook<scope, op::timer_hook, &scope::by_id>,
      boost::intrusive::compare<by_id>, boost::intrusive::constant_time_size<false>>;
  static std::size_t task_count_of(const task_set& tasks) { return tasks.size(); }

  engine_core(const sluice::knobs& settings, log_callback log);
  result<void> make_backend();
  result<void> make_memory();
  void register_memory(ring_backend& ring);
  void try_provided_buffers();
  void try_bundles();
  void say_unregistered(int refusal);
  void call_host();
  [[nodiscard]] bool somebody_leaves() const;

  // Never change after the start, but for live knobs.
  sluice::knobs settings_;
  tuning::knob_values values_;
  log_callback log_;
  kernel::capability_table capabilities_;
  file_capabilities tried_;
  // Written by the loop thread.
  tuning::counters counters_;
  std::unique_ptr<backend> backend_;
  ring_backend* ring_ = nullptr;  // backend_, when it is one
  std::optional<arena> arena_;
  std::unique_ptr<sluice::loop> loop_;
  std::unique_ptr<registration> registered_;
  std::unique_ptr<buffer_class> blocks_;
  std::unique_ptr<buffer_class> heads_;
  std::unique_ptr<provided_buffers> provided_;
  std::unique_ptr<pipe_pool> pipes_;
  std::unique_ptr<sluice::closer> closer_;
  std::unique_ptr<engine_part> storage_part_;
  task_set tasks_;
  std::uint64_t tasks_begun_ = 0;
  std::optional<kernel::epoll> guest_epoll_;
  std::optional<kernel::timer_fd> guest_timer_;
  // Any thread.
  std::atomic<bool> stopping_{false};
};

}  // namespace sluice
