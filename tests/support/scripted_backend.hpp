// A backend without a kernel: it answers what the test says, when the test says so, and writes down
// what it was asked. Deterministic, but for wake() from other threads.
#pragma once

#include <sys/eventfd.h>
#include <sys/poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "backend/backend.hpp"
#include "ops/table.hpp"

namespace support {

// What becomes of an op that is asked to end.
enum class on_cancel : std::uint8_t {
  answer,  // -ECANCELED at the next wait
  ignore,  // nothing, until the test answers it
};

enum class answer_order : std::uint8_t { first_first, last_first };

class scripted_backend final : public sluice::backend {
 public:
  enum class event_kind : std::uint8_t { start, refuse, cancel, wait };
  struct event {
    event_kind kind;
    sluice::op* subject;  // null for wait
    bool operator==(const event&) const = default;
  };

  scripted_backend() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~scripted_backend() override { ::close(fd_); }

  // ---- for the test

  // The results of the next starts, in order: each is answered at the wait that follows. An op
  // started when the script is used up is held until answer().
  void script(std::initializer_list<std::int64_t> results) {
    script_.insert(script_.end(), results);
  }
  // Answers a held op at the next wait.
  void answer(sluice::op& o, std::int64_t result) {
    std::erase(held_, &o);
    o.result = result;
    o.holds_memory = false;
    due_.push_back(&o);
  }
  // Gives a held op its result at the next wait, as a send_zc gets it; answer() is then the notice.
  void answer_early(sluice::op& o, std::int64_t result) {
    o.result = result;
    o.holds_memory = true;
    due_.push_back(&o);
  }
  // Started, neither answered nor scripted; in the order of their start.
  [[nodiscard]] const std::vector<sluice::op*>& held() const { return held_; }
  [[nodiscard]] bool holds(const sluice::op& o) const {
    return std::ranges::find(held_, &o) != held_.end();
  }
  // Held and due ops together.
  [[nodiscard]] std::size_t carried() const { return held_.size() + due_.size(); }

  std::size_t room = std::numeric_limits<std::size_t>::max();  // start() refuses above this many
  // When set, says of an op whether it is refused, instead of `room`.
  std::function<bool(const sluice::op&)> refuses;
  on_cancel when_cancelled = on_cancel::answer;
  answer_order order = answer_order::first_first;
  std::function<void()> during_wait;  // called in wait, before answers are handed over
  // When set, answers what no script does: sluice::row_of(kind).perform makes it a real backend.
  std::function<std::int64_t(const sluice::op_request&)> perform;

  std::vector<event> events;
  std::int64_t last_timeout_ns = 0;  // of the last wait
  [[nodiscard]] std::size_t count_of(event_kind kind) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(events, [kind](const event& e) { return e.kind == kind; }));
  }

  // ---- the seam

  bool start(sluice::op& o) override {
    if (refuses ? refuses(o) : carried() >= room) {
      events.push_back({event_kind::refuse, &o});
      return false;
    }
    events.push_back({event_kind::start, &o});
    if (!script_.empty()) {
      o.result = script_.front();
      script_.pop_front();
      due_.push_back(&o);
    } else if (perform) {
      o.result = perform(o.request);
      due_.push_back(&o);
    } else {
      held_.push_back(&o);
    }
    return true;
  }

  void cancel(sluice::op& o) override {
    events.push_back({event_kind::cancel, &o});
    if (when_cancelled == on_cancel::answer && holds(o)) answer(o, -ECANCELED);
  }

  // Waits for real only when there is nothing to hand over, and never for ever: a test that hangs
  // says less than one that fails.
  void wait(std::int64_t timeout_ns, sluice::op_list& answered) override {
    events.push_back({event_kind::wait, nullptr});
    last_timeout_ns = timeout_ns;
    if (during_wait) during_wait();
    if (due_.empty() && timeout_ns != 0) sleep_until_woken(timeout_ns);
    std::uint64_t ignored = 0;
    [[maybe_unused]] const auto cleared = ::read(fd_, &ignored, sizeof ignored);
    if (order == answer_order::last_first) std::ranges::reverse(due_);
    for (sluice::op* o : due_) answered.push_back(*o);
    due_.clear();
  }

  bool calls_at_once(const sluice::op_request& request) const override {
    return sluice::carrier_of(request) == sluice::carrier::inline_call;
  }

  void wake() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);
  }
  int poll_fd() override { return fd_; }
  std::size_t polls_max() const override { return room; }
  sluice::kernel::socket_mode socket_mode() const override {
    return sluice::kernel::socket_mode::blocking;
  }
  std::string_view name() const override { return "scripted"; }

 private:
  static constexpr std::int64_t wait_max_ns = 10'000'000'000;
  void sleep_until_woken(std::int64_t timeout_ns) const {
    const std::int64_t ns = timeout_ns < 0 ? wait_max_ns : std::min(timeout_ns, wait_max_ns);
    const timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
    pollfd woken{fd_, POLLIN, 0};
    ::ppoll(&woken, 1, &limit, nullptr);
  }

  int fd_;
  std::deque<std::int64_t> script_;
  std::vector<sluice::op*> held_;
  std::vector<sluice::op*> due_;
};

}  // namespace support
