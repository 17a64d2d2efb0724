#include "backend/pool_backend.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "ops/table.hpp"

namespace sluice {
namespace {

constexpr std::size_t events_per_wait = 256;

// poll(2) and epoll(7) use the same bits for what is asked for here.
std::uint32_t events_wanted(const op& o) {
  switch (row_of(o.request.kind).by) {
    case carrier::readable: return EPOLLIN;
    case carrier::writable: return EPOLLOUT;
    default: return o.request.flags;
  }
}

}  // namespace

result<std::unique_ptr<pool_backend>> pool_backend::make(const tuning::pool_knobs& settings,
                                                         tuning::counters& counters) {
  result<kernel::epoll> epoll = kernel::epoll::make();
  if (!epoll) return std::unexpected(epoll.error());
  result<kernel::wake_fd> wake = kernel::wake_fd::make();
  if (!wake) return std::unexpected(wake.error());
  if (const result<void> watched = epoll->watch(wake->get()); !watched) {
    return std::unexpected(watched.error());
  }
  return std::make_unique<pool_backend>(std::move(*epoll), std::move(*wake), settings, counters);
}

pool_backend::pool_backend(kernel::epoll made, kernel::wake_fd wake,
                           const tuning::pool_knobs& settings, tuning::counters& counters)
    : epoll_(std::move(made)),
      wake_fd_(std::move(wake)),
      workers_(settings.threads, *this, counters.pool) {}

pool_backend::~pool_backend() = default;

bool pool_backend::start(op& o) {
  switch (carrier_of(o.request)) {
    case carrier::worker:
      if (!workers_.submit(o)) {
        o.result = -code::no_thread;  // the loop tries again, a bounded number of times
        answered_now_.push_back(o);
      }
      return true;
    case carrier::inline_call:
      o.result = row_of(o.request.kind).perform(o.request);
      answered_now_.push_back(o);
      return true;
    default: return try_or_watch(o);
  }
}

bool pool_backend::try_or_watch(op& o) {
  o.result = row_of(o.request.kind).perform(o.request);
  if (o.result != -EAGAIN) {
    answered_now_.push_back(o);
    return true;
  }
  const auto fd = static_cast<std::size_t>(o.request.fd);
  if (fd >= waiting_.size()) waiting_.resize(fd + 1);
  if (!waiting_[fd]) waiting_[fd] = std::make_unique<op_list>();
  waiting_[fd]->push_back(o);
  if (const int refusal = arm(o.request.fd); refusal != 0) {
    o.link.unlink();
    // EPERM: a regular file, always ready (kernel-notes/regular_file_epoll_eperm.md).
    o.result = refusal == EPERM && o.request.kind == op_kind::poll ? o.request.flags : -refusal;
    answered_now_.push_back(o);
  }
  return true;
}

int pool_backend::arm(int fd) {
  std::uint32_t events = 0;
  for (const op& o : *waiting_[static_cast<std::size_t>(fd)]) events |= events_wanted(o);
  return epoll_.arm_once(fd, events);
}

void pool_backend::cancel(op& o) {
  if (o.on_worker) {
    workers_.cancel(o);
    return;
  }
  // Its descriptor stays armed: the event that may come finds nobody waiting.
  if (o.result != -EAGAIN) return;  // answered already
  o.link.unlink();
  o.result = -ECANCELED;
  answered_now_.push_back(o);
}

void pool_backend::wait(std::int64_t timeout_ns, op_list& answered) {
  std::array<epoll_event, events_per_wait> events;
  const bool at_once = timeout_ns == 0 || !answered_now_.empty() || !workers_.may_wait();
  const std::size_t count = epoll_.wait(events, at_once ? 0 : timeout_ns);
  for (std::size_t i = 0; i < count; ++i) {
    if (events[i].data.fd == wake_fd_.get()) {
      wake_fd_.clear();
    } else {
      ready(events[i].data.fd, events[i].events);
    }
  }
  answered.splice(answered.end(), answered_now_);
  workers_.collect(answered);
  if (is_guest_ && !workers_.may_wait()) wake();
}

int pool_backend::poll_fd() {
  is_guest_ = true;
  if (!workers_.may_wait()) wake();
  return epoll_.get();
}

void pool_backend::ready(int fd, std::uint32_t events) {
  const auto index = static_cast<std::size_t>(fd);
  if (index >= waiting_.size() || !waiting_[index]) return;
  op_list& waiting = *waiting_[index];
  for (auto next = waiting.begin(); next != waiting.end();) {
    op& o = *next++;
    if ((events & (events_wanted(o) | EPOLLERR | EPOLLHUP)) == 0) continue;
    o.result = row_of(o.request.kind).perform(o.request);
    if (o.result == -EAGAIN) continue;
    o.link.unlink();
    answered_now_.push_back(o);
  }
  if (waiting.empty()) return;
  if (const int refusal = arm(fd); refusal != 0) {
    for (op& o : waiting) o.result = -refusal;
    answered_now_.splice(answered_now_.end(), waiting);
  }
}

}  // namespace sluice
