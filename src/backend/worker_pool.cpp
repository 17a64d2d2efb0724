#include "backend/worker_pool.hpp"

#include <signal.h>

#include <cassert>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "backend/backend.hpp"
#include "ops/table.hpp"

namespace sluice {
namespace {

// What `result` holds while an op is queued; no system call answers it.
constexpr std::int64_t unanswered = std::numeric_limits<std::int64_t>::min();

}  // namespace

worker_pool::worker_pool(std::size_t threads_max, backend& woken, tuning::pool_counters& counters)
    : threads_max_(threads_max), woken_(woken), counters_(counters) {}

worker_pool::~worker_pool() {
  {
    const std::lock_guard lock(mutex_);
    assert(queued_.empty());
    stopping_ = true;
  }
  work_there_.notify_all();
  for (std::thread& t : threads_) t.join();
  counters_.threads.set(0);
}

bool worker_pool::submit(op& o) {
  {
    std::unique_lock lock(mutex_);
    if (idle_ <= queued_count_ && threads_.size() < threads_max_) {
      lock.unlock();  // it begins with the lock
      if (!add_thread() && threads_.empty()) return false;
      lock.lock();
    }
    o.on_worker = true;
    o.result = unanswered;
    queued_.push_back(o);
    ++queued_count_;
  }
  ++uncollected_;
  counters_.tasks.add();
  work_there_.notify_one();
  return true;
}

void worker_pool::cancel(op& o) {
  {
    const std::lock_guard lock(mutex_);
    // Taken by a thread, an op is on no list until it is answered; answered, it has a result.
    if (!o.link.is_linked() || o.result != unanswered) return;
    o.link.unlink();
    --queued_count_;
    if (!answer(o, -ECANCELED)) return;
  }
  woken_.wake();
}

// With the lock held. True: the loop is to be woken, once the lock is free.
bool worker_pool::answer(op& o, std::int64_t result) {
  o.result = result;
  answered_.push_back(o);
  return std::exchange(loop_waits_, false);
}

bool worker_pool::may_wait() {
  if (uncollected_ == 0) return true;
  const std::lock_guard lock(mutex_);
  loop_waits_ = answered_.empty();
  return loop_waits_;
}

void worker_pool::collect(op_list& answered) {
  if (uncollected_ == 0) return;
  const std::lock_guard lock(mutex_);
  loop_waits_ = false;
  for (op& o : answered_) {
    o.on_worker = false;
    --uncollected_;
  }
  answered.splice(answered.end(), answered_);
}

bool worker_pool::add_thread() {
  // Workers take no signal: those belong to the program that embeds us.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool made = true;
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    made = false;  // EAGAIN: RLIMIT_NPROC or a cgroup; the threads there are do the work
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  counters_.threads.set(threads_.size());
  return made;
}

void worker_pool::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    work_there_.wait(lock, [this] { return stopping_ || !queued_.empty(); });
    --idle_;
    if (queued_.empty()) return;
    op& o = queued_.front();
    queued_.pop_front();
    --queued_count_;
    lock.unlock();
    const std::int64_t result = row_of(o.request.kind).perform(o.request);
    lock.lock();
    if (answer(o, result)) {
      // Unlocked, so that the loop does not wake up into our lock. Until `stopping_` the backend is
      // there.
      lock.unlock();
      woken_.wake();
      lock.lock();
    }
  }
}

}  // namespace sluice
