#include "core/engine_core.hpp"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "backend/pool_backend.hpp"
#include "backend/ring_backend.hpp"
#include "base/assert.hpp"
#include "kernel/bundle_trial.hpp"
#include "kernel/file_extents.hpp"

namespace sluice {

scope::~scope() { base::require(ops.empty(), "a task ended with an operation under way"); }

void scope::cancel(sluice::loop& on) {
  cancelled_ = true;
  // A cancel answers at once or later, but runs no completion now: the list only shrinks in the
  // loop's turn.
  for (op& o : ops) on.cancel(o, ECANCELED);
}

result<std::unique_ptr<engine_core>> engine_core::make(const sluice::knobs& settings,
                                                       log_callback log) {
  std::unique_ptr<engine_core> made(new engine_core(settings, std::move(log)));
  if (const std::vector<std::string> conflicts = settings.conflicts(); !conflicts.empty()) {
    for (const std::string& conflict : conflicts) made->say(log_level::warning, conflict);
    return fail(EINVAL, "knobs", "engine start: they contradict each other");
  }
  if (const result<void> backend = made->make_backend(); !backend) {
    return std::unexpected(backend.error());
  }
  made->loop_ = std::make_unique<sluice::loop>(*made->backend_, made->counters_);
  made->pipes_ = std::make_unique<pipe_pool>(
      made->values_.splice, kernel::pipes_per_user(made->values_.splice.pipe_bytes), *made->loop_,
      made->counters_.splice);
  made->closer_ = std::make_unique<sluice::closer>(*made->loop_);
  if (const result<void> memory = made->make_memory(); !memory) {
    return std::unexpected(memory.error());
  }
  return made;
}

engine_core::engine_core(const sluice::knobs& settings, log_callback log)
    : settings_(settings),
      values_(tuning::values(settings)),
      log_(std::move(log)),
      capabilities_(values_.engine.capabilities_hidden) {
  const int no_openat2 = kernel::try_openat2();
  tried_.openat2 = capabilities_.add("openat2", no_openat2 == 0, code_name(no_openat2));
  const int no_proc = kernel::try_proc_self_fd();
  tried_.proc_self_fd = capabilities_.add("proc_self_fd", no_proc == 0, code_name(no_proc));
  tried_.unnamed_files = capabilities_.add("unnamed_files", tried_.proc_self_fd,
                                           "no /proc/self/fd to name them by (linkat)");
  const int no_splice = kernel::try_splice();
  const int no_sendfile = kernel::try_sendfile();
  tried_.splice = capabilities_.add("splice", no_splice == 0 && no_sendfile == 0,
                                    code_name(no_splice != 0 ? no_splice : no_sendfile));
  const int no_range = kernel::try_copy_file_range();
  tried_.copy_file_range = capabilities_.add("copy_file_range", no_range == 0, code_name(no_range));
}

engine_core::~engine_core() {
  if (!loop_) return;
  cancel_all();
  while (!tasks_.empty() || loop_->ops_under_way() > 0) {
    loop_->turn(-1, values_.loop.completions_per_turn, values_.loop.bytes_per_turn);
    cancel_all();  // what tasks begun meanwhile
  }
}

result<void> engine_core::make_backend() {
  const tuning::backend_choice wanted = values_.engine.backend;
  if (wanted != tuning::backend_choice::pool) {
    result<std::unique_ptr<ring_backend>> ring =
        ring_backend::make(values_.ring, values_.pool, counters_, capabilities_);
    if (ring) {
      ring_ = ring->get();
      ring_->on_failure(
          [](void* self, std::string_view text) {
            static_cast<engine_core*>(self)->say(log_level::fatal, text);
          },
          this);
      if (!capabilities_.present("ring.full_size")) {
        say(log_level::warning, "RLIMIT_MEMLOCK is " + kernel::memlock_limit_text() +
                                    ": the ring is smaller than sluice.ring.entries and "
                                    "sluice.ring.completion_entries ask for; it carries " +
                                    std::to_string(ring_->polls_max()) + " waiting streams");
      }
      backend_ = std::move(*ring);
      return {};
    }
    if (wanted == tuning::backend_choice::ring) return std::unexpected(ring.error());
    say(log_level::info, "no io_uring (" + describe(ring.error()) + "): using the thread pool");
  }
  result<std::unique_ptr<pool_backend>> pool = pool_backend::make(values_.pool, counters_);
  if (!pool) return std::unexpected(pool.error());
  backend_ = std::move(*pool);
  return {};
}

result<void> engine_core::make_memory() {
  result<arena> made = arena::make(values_.memory);
  if (!made) return std::unexpected(made.error());
  arena_.emplace(std::move(*made));
  blocks_ = std::make_unique<buffer_class>(arena_->blocks(),
                                           static_cast<std::uint32_t>(values_.memory.block_bytes),
                                           *loop_, counters_.memory);
  heads_ = std::make_unique<buffer_class>(arena_->heads(),
                                          static_cast<std::uint32_t>(values_.memory.head_bytes),
                                          *loop_, counters_.memory);
  if (ring_ == nullptr) return {};
  if (values_.memory.register_buffers) register_memory(*ring_);
  if (capabilities_.present("ring.op.recv_multishot")) try_provided_buffers();
  if (provided_ && values_.frames.bundles) try_bundles();
  return {};
}

// The probe of the ring tells of receives alone, not of multishot ones (Linux 6.0), nor of the
// rings of buffers that they take from (5.19).
void engine_core::try_provided_buffers() {
  provided_ = std::make_unique<provided_buffers>(*ring_, *blocks_, values_.frames.provided_bytes);
  const int refusal = provided_->refusal();
  const std::string why = std::string(code_name(refusal)) + ": no ring of provided buffers";
  if (!capabilities_.add("ring.provided_buffers", refusal == 0, why)) provided_.reset();
}

// Registers the arena as far as RLIMIT_MEMLOCK allows
// (kernel-notes/memlock_limits_registration.md); blocks beyond that are used all the same,
// unregistered.
void engine_core::register_memory(ring_backend& ring) {
  registered_ = std::make_unique<registration>(ring, arena_->all(), values_.memory.block_bytes,
                                               counters_.memory,
                                               [this](int refusal) { say_unregistered(refusal); });
  const int refusal = registered_->open();
  const bool open =
      capabilities_.add("registered_buffers", refusal == 0,
                        std::string(code_name(refusal)) + ": no table of fixed buffers");
  if (!open) return;
  tried_.zero_copy_send = capabilities_.present("ring.op.send_zc");
  blocks_->use(registered_.get());
  heads_->use(registered_.get());
}

// Kernels have been seen that bring them in another order, so they are tried before they are used.
void engine_core::try_bundles() {
  const std::string wrong = kernel::try_bundles();
  tried_.receive_bundles = capabilities_.add("ring.recv_bundles", wrong.empty(), wrong);
  if (!tried_.receive_bundles) {
    say(log_level::warning, "sluice.frames.bundles is on, and receives come without: " + wrong);
  }
}

void engine_core::say_unregistered(int refusal) {
  say(log_level::warning, "buffers not registered in full (" + std::string(code_name(refusal)) +
                              ", RLIMIT_MEMLOCK is " + kernel::memlock_limit_text() +
                              "): " + std::to_string(counters_.memory.registered_bytes.get()) +
                              " of " + std::to_string(arena_->all().size()) +
                              " bytes are; direct writes of the rest cost more");
}

void engine_core::say(log_level level, std::string_view text) const {
  if (log_) log_(level, text);
}

result<void> engine_core::set_live(std::string_view name, std::string_view value) {
  if (const result<void> set = tuning::set_live(values_, name, value); !set) return set;
  return settings_.set(name, value);
}

task_handle engine_core::adopt(detail::root_task root) {
  scope& s = root.handle.promise().task_scope_;
  s.id = ++tasks_begun_;
  const task_handle handle{s.id};
  tasks_.insert(s);
  root.handle.resume();  // may run to its end and be gone
  return handle;
}

void engine_core::cancel(task_handle which) {
  const auto found = tasks_.find(which.id, by_id{});
  if (found == tasks_.end()) return;
  found->cancel(*loop_);
}

void engine_core::cancel_all() {
  for (scope& s : tasks_) s.cancel(*loop_);
}

// Receives that outlived the task they were for, and end by themselves.
bool engine_core::somebody_leaves() const { return provided_ && provided_->leaving() > 0; }

void engine_core::run() {
  while ((!tasks_.empty() || closer_->pending() > 0 || somebody_leaves()) &&
         !stopping_.load(std::memory_order_acquire)) {
    loop_->turn(-1, values_.loop.completions_per_turn, values_.loop.bytes_per_turn);
  }
  stopping_.store(false, std::memory_order_relaxed);  // so that run can be called again
  call_host();
}

std::size_t engine_core::turn(std::int64_t timeout_ns, std::size_t budget) {
  const std::size_t ran = loop_->turn(timeout_ns, budget, values_.loop.bytes_per_turn);
  call_host();
  return ran;
}

void engine_core::stop() {
  stopping_.store(true, std::memory_order_release);
  backend_->wake();
}

int engine_core::guest_fd() {
  if (guest_epoll_) return guest_epoll_->get();
  result<kernel::epoll> both = kernel::epoll::make();
  if (!both) return -both.error().code;
  result<kernel::timer_fd> timer = kernel::timer_fd::make();
  if (!timer) return -timer.error().code;
  for (const int fd : {backend_->poll_fd(), timer->get()}) {
    if (const result<void> watched = both->watch(fd); !watched) return -watched.error().code;
  }
  guest_epoll_.emplace(std::move(*both));
  guest_timer_.emplace(std::move(*timer));
  loop_->become_guest();
  turn(0, 0);  // submits what was begun before, and arms the wake-up
  return guest_epoll_->get();
}

// As a guest nobody calls us unless our descriptor is readable: for the work that a turn left over
// and for the next timer too. What happens between turns calls by itself (loop::become_guest).
void engine_core::call_host() {
  if (!guest_epoll_) return;
  if (loop_->has_work()) backend_->wake();
  guest_timer_->arm(loop_->next_deadline_ns());
}

}  // namespace sluice
