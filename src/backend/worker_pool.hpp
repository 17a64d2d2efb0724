// A bounded pool of threads that perform blocking ops. Threads are made when there is work and none
// is idle.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "ops/lists.hpp"
#include "tuning/counter_values.hpp"

namespace sluice {

class backend;

// submit, cancel, may_wait, collect: loop thread only. The queue holds ops through their own links,
// so it is bounded by the ops there are and allocates nothing.
class worker_pool {
 public:
  worker_pool(std::size_t threads_max, backend& woken, tuning::pool_counters& counters);
  worker_pool(const worker_pool&) = delete;
  worker_pool& operator=(const worker_pool&) = delete;
  ~worker_pool();  // joins; no op may be queued

  // Queues the op; its answer comes by collect. False: not one thread can be made now, which the
  // backend answers with -code::no_thread.
  [[nodiscard]] bool submit(op& o);
  // A queued op is answered with -ECANCELED; one that a thread performs runs to its end.
  void cancel(op& o);
  // To be asked before the loop waits. False: there are answers to collect. True: the first to come
  // calls backend::wake, once; those of a loop that is awake wake nobody.
  [[nodiscard]] bool may_wait();
  // Moves the answered ops to `answered`.
  void collect(op_list& answered);

 private:
  void work();
  bool add_thread();
  [[nodiscard]] bool answer(op& o, std::int64_t result);

  const std::size_t threads_max_;
  backend& woken_;
  tuning::pool_counters& counters_;
  std::vector<std::thread> threads_;  // loop thread
  std::size_t uncollected_ = 0;       // loop thread: submitted and not yet collected

  std::mutex mutex_;  // all below
  std::condition_variable work_there_;
  op_list queued_;
  op_list answered_;
  std::size_t queued_count_ = 0;
  std::size_t idle_ = 0;
  bool loop_waits_ = false;
  bool stopping_ = false;
};

}  // namespace sluice
